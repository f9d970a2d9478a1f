"""Makes kiwi wait for its children's output instead of polling for it, keep the links of an image, and
have the host take a checkpoint of the disk.

kiwi (up to 11.1 at least, kiwi/command.py and kiwi/command_process.py) reads the output of package
managers byte by byte, and polls both pipes before each byte, with a timeout of 0.1 ms. A package
manager that prints more than a pipe holds is slowed down to some 7 kB/s on any machine, and where
the processor is emulated, kiwi keeps one of them busy.

This module gives kiwi's iterator pipes that read whatever is available in one call, and block until
something is. The iterator itself is unchanged: same lines, same order within a pipe, same end. A kiwi
with another implementation is not patched.

kiwi (kiwi/system/setup.py) copies the overlay over the image with rsync, which replaces a link by a
folder of the same name: with root/lib/ in the description, the image loses its link lib -> usr/lib, and
with it all programs. This module has such a folder copied to where the image's link leads.

Between the two halves of `system build`, which are `system prepare` and `system create`, kiwi calls
images.sh (kiwi/system/setup.py, call_image_script). Before that, this module freezes the file system of
the root tree, asks the host for a checkpoint of the disk, and waits for its answer: a build that fails
later can go on from there. The descriptor for that is in BOXBUILD_CHECKPOINT; without it, nothing is done.

kiwi (kiwi/builder/disk.py, create_disk) gives a disk its identifier after it has written down what its
partitions are called, and in a DOS partition table the PARTUUID begins with that identifier: a root on
squashfs, which has no other name, is never found by the image. This module has the identifier written first.

A kernel's package makes its initial ramdisk when it is set up, and the package of dracut or initramfs-tools
makes it again at the end of the same transaction, by a trigger. This module has the first one left out
(INITRD=No, which the hooks of kernels know), and lets apt call these hooks once, when dpkg has ended
(kiwi/package_manager/apt.py, process_install_requests).

kiwi (kiwi/tasks/system_build.py) takes the values of `--set-type-attr` as text, also where the attribute is a
truth value or a number: `overlayroot=false` gives the image an overlay, and `efipartsize=64` ends the build. This
module has the values read as kiwi reads them in a description.

kiwi (kiwi/xml_description.py) has jing say where a description does not obey the schema, which needs Java. Where
there is none, this module has kiwi say it in its log, with the line.

kiwi 11 (kiwi/runtime_config.py) takes sections of its settings (/etc/kiwi.yml) as mappings and fails on the lists of
one setting each that they are before, and kiwi 10 fails on mappings. This module has both read, and media marked with
what the box has.

A build that is to be reproducible gets archives without the times of files that are none of theirs.

Python imports the module before it runs kiwi, because boxbuild's init puts its folder first in
PYTHONPATH. The module then removes its folder from the search path, so that child processes do not
import it, and imports the box's own sitecustomize. Alternatively, a program that runs kiwi runs this
file first (guest/nosync).
"""

import os
import sys


def hide_folder():
    """Removes this folder from the search paths of this process and of its children."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != here]
    others = [
        path
        for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if os.path.abspath(path) != here
    ]
    if any(others):
        os.environ["PYTHONPATH"] = os.pathsep.join(others)
    else:
        os.environ.pop("PYTHONPATH", None)


def import_own_sitecustomize():
    """Imports the box's own sitecustomize, which this one shadows."""
    this = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        # The import of this module ends with a look-up of it.
        sys.modules["sitecustomize"] = this
        if error.name != "sitecustomize":
            raise


class Pipe:
    """One of a child's two pipes, with the interface that kiwi's iterator uses."""

    def __init__(self, file):
        self.file = file
        self.data = b""
        self.at = 0
        self.ended = False

    def __getattr__(self, name):
        return getattr(self.file, name)

    def data_left(self):
        return self.at < len(self.data)

    def ready(self):
        """Whether a read returns at once: there are data, or the pipe has ended."""
        return self.ended or self.data_left()

    def fill(self):
        self.data = os.read(self.file.fileno(), 65536)
        self.at = 0
        self.ended = not self.data

    def read(self, size=-1):
        if size is None or size < 0:
            rest = self.data[self.at :] + self.file.read()
            self.at = len(self.data)
            self.ended = True
            return rest
        if not self.ready():
            self.fill()
        got = self.data[self.at : self.at + size]
        self.at += len(got)
        return got


class Pipes:
    """A child's two pipes."""

    def __init__(self, output, error):
        import select

        self.output = Pipe(output)
        self.error = Pipe(error)
        self.select = select.select

    def fill(self, timeout):
        """Reads what is available, or what arrives first within `timeout` seconds."""
        running = [pipe for pipe in (self.output, self.error) if not pipe.ended]
        # With both pipes at their end, kiwi polls for the child's exit: slow that down.
        readable, _, _ = self.select(running, [], [], timeout if running else 0.001)
        for pipe in readable:
            # Data that were read before are handed out first.
            if not pipe.ready():
                pipe.fill()

    def output_available(self):
        # kiwi has nothing to do but to wait for the child's next output or exit. The timeout of a
        # second keeps it interruptible.
        if not self.output.data_left() and not self.error.data_left():
            self.fill(1)
        return self.output.ready()

    def error_available(self):
        if not self.error.ready() and not self.output.data_left():
            self.fill(0)
        return self.error.ready()


def patch(module):
    """Makes the iterator of `module` read from Pipes, if its implementation is the known one."""
    iterator = getattr(module, "CommandIterator", None)
    original = getattr(iterator, "__init__", None)
    fields = ("output", "output_available", "error", "error_available", "process")
    steps = getattr(getattr(iterator, "__next__", None), "__code__", None)
    if original is None or steps is None or not set(fields) <= set(steps.co_names):
        return

    def init(self, command, *args, **kwargs):
        if sorted(getattr(command, "_fields", ())) == sorted(fields):
            pipes = Pipes(command.output, command.error)
            command = command._replace(
                output=pipes.output,
                output_available=pipes.output_available,
                error=pipes.error,
                error_available=pipes.error_available,
            )
        original(self, command, *args, **kwargs)

    iterator.__init__ = init


def folder_behind(root, name):
    """The folder of the image that its link `name` leads to, without leaving the image; None if there
    is none."""
    parts, here, links = name.split("/")[::-1], [], 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here[-1:] = []
            continue
        path = os.path.join(root, *here, part)
        if os.path.islink(path):
            links += 1
            target = os.readlink(path)
            if links > 40:
                return None
            if target.startswith("/"):
                here = []
            parts += target.split("/")[::-1]
        else:
            here.append(part)
    path = os.path.join(root, *here)
    return path if here and os.path.isdir(path) else None


def links_in_the_way(overlay, root, at):
    """Folders of the overlay that are links to folders in the image, and these folders. The overlay is
    copied to the folder `at` of the image."""
    found = []
    for path, folders, _ in os.walk(overlay):
        for folder in list(folders):
            name = os.path.relpath(os.path.join(path, folder), overlay)
            if os.path.islink(os.path.join(path, folder)):
                continue
            if not os.path.islink(os.path.join(at, name)):
                continue
            target = folder_behind(root, os.path.relpath(os.path.join(at, name), root))
            if target:
                found.append((name, target))
                folders.remove(folder)
    return found


def patch_overlay(module):
    """Has kiwi keep the image's links when it copies the overlay."""
    setup = getattr(module, "SystemSetup", None)
    original = getattr(setup, "_sync_overlay_files", None)
    if original is None or not hasattr(module, "DataSync"):
        return

    def sync_overlay_files(self, *args, **kwargs):
        plain = module.DataSync

        class KeepingLinks(plain):
            def __init__(self, source_dir, target_dir, image=None):
                plain.__init__(self, source_dir, target_dir)
                self.overlay, self.at, self.image = source_dir, target_dir, image or target_dir

            def sync_data(self, options=(), **more):
                own = list(options or ())
                found = links_in_the_way(self.overlay, self.image, self.at)
                for name, target in found:
                    # A pattern of rsync(1): anchored, without wildcards.
                    pattern = "".join("\\" + c if c in "*?[\\" else c for c in name)
                    own.append("--exclude=/" + pattern + "/")
                    log = getattr(module, "log", None)
                    if log:
                        log.warning("%s is a link in the image: its files go to %s", name, target)
                plain.sync_data(self, options=own, **more)
                for name, target in found:
                    source = os.path.join(self.overlay, name) + os.sep
                    KeepingLinks(source, target, self.image).sync_data(options=list(options or ()))

        module.DataSync = KeepingLinks
        try:
            return original(self, *args, **kwargs)
        finally:
            module.DataSync = plain

    setup._sync_overlay_files = sync_overlay_files


FIFREEZE, FITHAW = 0xC0045877, 0xC0045878  # linux/fs.h
ANSWER_TIMEOUT = 60  # seconds


def wait_for_answer(port, select, deadline, now):
    """Reads lines of the host until the one that answers, or until the deadline."""
    lines = b""
    while now() < deadline:
        if not select([port], [], [], max(0, deadline - now()))[0]:
            return
        try:
            data = os.read(port, 4096)
        except BlockingIOError:
            continue
        lines += data
        complete = lines.split(b"\n")[:-1]
        if not data or any(line.startswith(b"boxbuild 1 checkpoint ") for line in complete):
            return


def take_checkpoint(root, port):
    """Has the host take a checkpoint of the disk that has the root tree. Without one, the build is the
    same: nothing here fails."""
    # What is imported later could be written to the frozen disk, as a .pyc file.
    from fcntl import ioctl
    from select import select
    from time import monotonic

    try:
        folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        # Writes out everything, whatever the filter of system calls does about sync(2).
        ioctl(folder, FIFREEZE, 0)
        try:
            os.write(port, b"boxbuild 1 checkpoint wanted\n")
            wait_for_answer(port, select, monotonic() + ANSWER_TIMEOUT, monotonic)
        finally:
            ioctl(folder, FITHAW, 0)
    except OSError:
        pass
    finally:
        os.close(folder)


def patch_checkpoint(module):
    """Has a checkpoint taken before kiwi calls images.sh for the first time."""
    setup = getattr(module, "SystemSetup", None)
    original = getattr(setup, "call_image_script", None)
    if original is None or CHECKPOINT is None:
        return
    ports = [CHECKPOINT]

    def call_image_script(self, *args, **kwargs):
        root = getattr(self, "root_dir", None)
        if ports and root:
            take_checkpoint(root, ports.pop())
        return original(self, *args, **kwargs)

    setup.call_image_script = call_image_script


def checkpoint_port():
    """The descriptor to ask for a checkpoint on; None if there is none. It is for this process alone."""
    try:
        port = int(os.environ.pop("BOXBUILD_CHECKPOINT", ""))
        os.set_inheritable(port, False)
        return port
    except (ValueError, OSError):
        return None


def patch_setup(module):
    patch_overlay(module)
    patch_checkpoint(module)


def patch_archive(module):
    """Has kiwi leave out of its archives what no two builds have in common: when a file was read and
    changed last, and the number of tar's process. tar's other options for that are in TAR_OPTIONS; these
    are for archives of POSIX's format alone, which kiwi asks for where it keeps attributes."""
    archive = getattr(module, "ArchiveTar", None)
    original = getattr(archive, "__init__", None)
    if original is None or "--clamp-mtime" not in os.environ.get("TAR_OPTIONS", ""):
        return

    def init(self, *args, **kwargs):
        original(self, *args, **kwargs)
        options = getattr(self, "xattrs_options", None)
        if isinstance(options, list) and "--xattrs" in options:
            own = "exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime"
            self.xattrs_options = options + ["--pax-option=" + own]

    archive.__init__ = init


def patch_disk(module):
    """Has kiwi write a disk's identifier before it reads the names of partitions that begin with it."""
    builder = getattr(module, "DiskBuilder", None)
    preserve = getattr(builder, "_preserve_root_partition_uuid", None)
    original = getattr(builder, "_write_partition_id_config_to_boot_image", None)
    if preserve is None or original is None:
        return

    def preserve_root_partition_uuid(self, device_map):
        self.boxbuild_devices = device_map
        return preserve(self, device_map)

    # The first step behind the choice of the identifier.
    def write_partition_id_config(self, disk):
        mbrid = getattr(self, "mbrid", None)
        if hasattr(mbrid, "write_to_disk") and hasattr(disk, "storage_provider"):
            mbrid.write_to_disk(disk.storage_provider)
            if hasattr(self, "boxbuild_devices"):
                preserve(self, self.boxbuild_devices)
        return original(self, disk)

    builder._preserve_root_partition_uuid = preserve_root_partition_uuid
    builder._write_partition_id_config_to_boot_image = write_partition_id_config


# The hooks of a kernel without an initial ramdisk, from the first one that INITRD=No has left out. Those
# behind it look for the ramdisk (zz-update-grub, zz-systemd-boot).
INITRD_HOOKS = """
unset INITRD
for kernel in /boot/vmlinu[xz]-*; do
    version=${kernel#/boot/vmlinu?-}
    if [ -e "$kernel" ] && [ ! -e "/boot/initrd.img-$version" ]; then
        missed=
        for hook in $(run-parts --list /etc/kernel/postinst.d); do
            if [ "$missed" ] || grep -qw INITRD "$hook"; then
                missed=1
                "$hook" "$version" "$kernel" || exit 1
            fi
        done
    fi
done
"""


def has_initrd(root):
    """Whether an image has an initial ramdisk, or what it has cannot be said."""
    try:
        return any(name.startswith("initrd") for name in os.listdir(os.path.join(root, "boot")))
    except FileNotFoundError:
        return False
    except OSError:
        return True


def patch_apt(module):
    """Has initial ramdisks made once in the transaction that brings the first kernel."""
    manager = getattr(module, "PackageManagerApt", None)
    original = getattr(manager, "process_install_requests", None)
    names = getattr(getattr(original, "__code__", None), "co_names", ())
    if not {"root_dir", "custom_args", "command_env"} <= set(names):
        return

    def process_install_requests(self, *args, **kwargs):
        arguments, environment = self.custom_args, self.command_env
        if not isinstance(arguments, list) or not isinstance(environment, dict):
            return original(self, *args, **kwargs)
        if "INITRD" in environment or has_initrd(self.root_dir):
            return original(self, *args, **kwargs)
        self.custom_args = arguments + ["-oDPkg::Post-Invoke::=" + INITRD_HOOKS]
        self.command_env = dict(environment, INITRD="No")
        try:
            return original(self, *args, **kwargs)
        finally:
            self.custom_args, self.command_env = arguments, environment

    manager.process_install_requests = process_install_requests


class Attribute:
    """An element with one attribute, for kiwi's own reading of it (kiwi/xml_parse.py, buildAttributes)."""

    def __init__(self, name, value):
        self.attrib, self.nsmap = {name: value}, {}
        self.tag, self.sourceline = "type with " + name, 0


def patch_type(module):
    """Has kiwi read what is set of a type as it reads a description, where it is text."""
    kind = getattr(module, "type_", None)
    read = getattr(getattr(kind, "buildAttributes", None), "__code__", None)
    if read is None or read.co_varnames[:4] != ("self", "node", "attrs", "already_processed"):
        return

    def reading(name, original):
        def setter(self, value, *args, **kwargs):
            # Nothing is no value of any of them: it has always unset the attribute.
            if isinstance(value, str) and value:
                node, fresh = Attribute(name, value), kind()
                fresh.buildAttributes(node, node.attrib, set())
                found = getattr(fresh, name, None)
                if found != getattr(kind(), name, None):
                    value = found
            return original(self, value, *args, **kwargs)

        return setter

    for method in [method for method in vars(kind) if method.startswith("set_")]:
        setattr(kind, method, reading(method[len("set_") :], getattr(kind, method)))


MOST_NAMED = 20


def line_of(origin, validated, path):
    """The line of an element in the file as it is written. kiwi validates it in another form, with included
    files in their places: what is another element there has no line."""
    from lxml import etree

    try:
        nodes = [etree.parse(file).xpath(path)[0] for file in (origin, validated)]
    except (etree.Error, OSError, IndexError, TypeError):
        return None
    tag, attributes = zip(*((node.tag, dict(node.attrib)) for node in nodes))
    return nodes[0].sourceline if tag[0] == tag[1] and attributes[0] == attributes[1] else None


def patch_description(module):
    """Has kiwi say where the schema is not obeyed, without jing."""
    kind = getattr(module, "XMLDescription", None)
    original = getattr(kind, "_get_relaxng_validation_details", None)
    load = getattr(kind, "load", None)
    log = getattr(module, "log", None)
    if original is None or load is None or log is None:
        return
    origin = []

    def remember(self, *args, **kwargs):
        origin[:] = [getattr(self, "description_origin", None)]
        return load(self, *args, **kwargs)

    def details(schema, validated, errors, *rest):
        import shutil

        # Extensions have files and schemas of their own.
        if shutil.which("jing") or os.path.basename(schema) != "kiwi.rng" or not origin:
            return original(schema, validated, errors, *rest)
        for entry in list(errors)[:MOST_NAMED]:
            line = line_of(origin[0], validated, getattr(entry, "path", None) or "/*")
            place = "%s:%d" % (origin[0], line) if line else origin[0]
            log.error("%s: %s", place, entry.message)

    kind.load = remember
    kind._get_relaxng_validation_details = staticmethod(details)


def as_mapping(section):
    """A section of kiwi's settings as a mapping; of settings that are there twice, kiwi takes the first."""
    if not (isinstance(section, list) and section and all(isinstance(one, dict) for one in section)):
        return section
    return {name: value for one in reversed(section) for name, value in one.items()}


def media_tag_tool():
    """What marks media where nothing is set: kiwi's own default is checkmedia, which Debian does not have."""
    import shutil

    return None if shutil.which("tagmedia") or not shutil.which("implantisomd5") else "isomd5sum"


def patch_settings(module):
    """Has kiwi read settings of newer and older form."""
    kind = getattr(module, "RuntimeConfig", None)
    original = getattr(kind, "_get_attribute", None)
    if original is None:
        return

    def get_attribute(self, element, attribute):
        settings = getattr(module, "RUNTIME_CONFIG", None)
        section = as_mapping(settings.get(element)) if isinstance(settings, dict) else None
        if isinstance(section, dict):
            found = section.get(attribute)
        else:
            found = original(self, element, attribute)
        if found is None and (element, attribute) == ("iso", "media_tag_tool"):
            return media_tag_tool()
        return found

    kind._get_attribute = get_attribute
    merge = getattr(kind, "_merge", None)
    if merge is None:
        return

    def merged(master, slave, *depth):
        both = [master, slave]
        if not depth:
            for at, settings in enumerate(both):
                if isinstance(settings, dict):
                    both[at] = {name: as_mapping(section) for name, section in settings.items()}
        return merge(*both, *depth)

    kind._merge = staticmethod(merged)


CHECKPOINT = checkpoint_port()
PATCHES = {
    "kiwi.runtime_config": patch_settings,
    "kiwi.xml_description": patch_description,
    "kiwi.xml_parse": patch_type,
    "kiwi.command_process": patch,
    "kiwi.system.setup": patch_setup,
    "kiwi.archive.tar": patch_archive,
    "kiwi.builder.disk": patch_disk,
    "kiwi.package_manager.apt": patch_apt,
}


class Finder:
    """An import hook that patches kiwi's modules when they are imported."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        apply = PATCHES.pop(name, None)
        if apply is None:
            return None
        if not PATCHES:
            sys.meta_path.remove(Finder)
        for finder in sys.meta_path:
            spec = None if finder is Finder else finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            apply(module)

        spec.loader.exec_module = exec_module
        return spec


if __name__ == "sitecustomize":
    hide_folder()
    import_own_sitecustomize()
sys.meta_path.insert(0, Finder)
