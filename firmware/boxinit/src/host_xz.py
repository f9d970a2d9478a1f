#!/usr/bin/python3 -IS
"""xz for a box whose processor is emulated: the host compresses, in its own time.

Stands before the box's xz in kiwi's search path. What it is asked for goes to the host through the
virtio-console port org.boxbuild.xz, and comes back compressed: with the same format, preset, and
division into blocks, at the speed of a real processor. It takes the requests that kiwi makes
(compress a stream or one file; preset, extreme, threads); for anything else, and where the port is
missing, in use or silent, the box's own xz runs in its place.

The protocol is described in boxinit's host_xz.rs. Python 3.6 or newer.
"""

import errno
import os
import select
import signal
import stat
import struct
import sys
import time

PORT = "org.boxbuild.xz"
HEAD = struct.Struct("<IIQ")  # kind, length, conversation
FRAME = 32 << 10
BEGIN, DATA, END, READY, ERROR = 1, 2, 3, 4, 5
PATIENCE = 20  # seconds for the host's first word

LONG = {
    "--force": "f",
    "--keep": "k",
    "--stdout": "c",
    "--to-stdout": "c",
    "--compress": "z",
    "--extreme": "e",
    "--fast": "0",
    "--best": "9",
}


class Refused(Exception):
    """The host does not do it."""


def parse(words):
    """What is wanted; None if it is more than this program can do."""
    wishes = {"preset": 6, "extreme": 0, "threads": 0, "flags": set(), "files": []}

    def threads(text):
        # "+1" and the like are for the real one.
        if not text or text.strip("0123456789"):
            raise ValueError
        wishes["threads"] = int(text)

    def short(letters):
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter == "T":
                threads(letters or next(rest))
                return
            if letter == "e":
                wishes["extreme"] = 1
            elif letter in "0123456789":
                wishes["preset"] = int(letter)
            elif letter in "fkcz":
                wishes["flags"].add(letter)
            else:
                raise ValueError

    rest = iter(words)
    try:
        for word in rest:
            if word.startswith("--threads="):
                threads(word[len("--threads=") :])
            elif word == "--threads":
                threads(next(rest))
            elif word in LONG:
                short(LONG[word])
            elif word.startswith("-") and word != "-":
                if word.startswith("--"):
                    return None
                short(word[1:])
            else:
                wishes["files"].append(word)
    except (ValueError, StopIteration):
        return None
    if wishes["files"] == ["-"]:
        wishes["files"] = []
    # More defaults, from the environment.
    if len(wishes["files"]) > 1 or os.environ.get("XZ_OPT") or os.environ.get("XZ_DEFAULTS"):
        return None
    return wishes


def open_port():
    """The way to the host, or None."""
    try:
        for name in os.listdir("/sys/class/virtio-ports"):
            with open("/sys/class/virtio-ports/%s/name" % name) as file:
                if file.read().strip() == PORT:
                    # One at a time: it is busy for a second one.
                    return os.open("/dev/" + name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        pass
    return None


class Host:
    """A conversation with the host."""

    def __init__(self, port):
        self.port = port
        self.session = int.from_bytes(os.urandom(8), "little")
        self.outgoing = b""
        self.incoming = bytearray()

    def frame(self, kind, payload=b""):
        """Queues a frame; the one before must be gone."""
        self.outgoing = HEAD.pack(kind, len(payload), self.session) + payload

    def move(self, timeout, sources=()):
        """Sends and takes what can be sent and taken; which of `sources` have something."""
        poller = select.poll()
        wanted = select.POLLIN | (select.POLLOUT if self.outgoing else 0)
        poller.register(self.port, wanted)
        for source in sources:
            poller.register(source, select.POLLIN)
        ready = dict(poller.poll(timeout))
        events = ready.pop(self.port, 0)
        try:
            if events & select.POLLOUT:
                self.outgoing = self.outgoing[os.write(self.port, self.outgoing) :]
            if events & select.POLLIN:
                data = os.read(self.port, 65536)
                self.incoming += data
                if not data:
                    raise Refused("the host is gone")
        except BlockingIOError:
            pass
        except OSError as error:
            raise Refused("the host does not answer: %s" % error)
        if events & (select.POLLHUP | select.POLLERR) and not events & select.POLLIN:
            raise Refused("the host is gone")
        return ready

    def begin(self, wishes):
        """Asks the host. What it had still to say to somebody else is passed over."""
        text = "%d %d %d" % (wishes["preset"], wishes["extreme"], wishes["threads"])
        self.frame(BEGIN, text.encode())
        yes = HEAD.pack(READY, 0, self.session)
        until = time.monotonic() + PATIENCE
        while True:
            left = until - time.monotonic()
            if left <= 0:
                raise Refused("the host says nothing")
            self.move(left * 1000)
            at = self.incoming.find(yes)
            if at >= 0:
                del self.incoming[: at + len(yes)]
                return
            del self.incoming[: -len(yes)]

    def frames(self):
        """The frames that have arrived."""
        while len(self.incoming) >= HEAD.size:
            kind, length, session = HEAD.unpack_from(self.incoming)
            if session != self.session or length > FRAME:
                raise Refused("the host talks to somebody else")
            if len(self.incoming) < HEAD.size + length:
                return
            payload = bytes(self.incoming[HEAD.size : HEAD.size + length])
            del self.incoming[: HEAD.size + length]
            yield kind, payload

    def compress(self, source, sink):
        """All of one descriptor, compressed, to another one."""
        ended = False
        while True:
            waits = not ended and not self.outgoing
            if source in self.move(None, [source] if waits else []):
                data = os.read(source, FRAME - HEAD.size)
                ended = not data
                self.frame(DATA if data else END, data)
            for kind, payload in self.frames():
                if kind == DATA:
                    write(sink, payload)
                elif kind == END:
                    return
                else:
                    raise Refused(payload.decode(errors="replace") or "the host made an error")


def write(descriptor, data):
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except BrokenPipeError:
        # Python ignores the signal that ends every other program then.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
        raise


def takes_file(path, flags):
    """Nothing is special about the file, so that the real one would compress it without a word."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    special = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
        and not found.st_mode & special
        and not path.endswith((".xz", ".txz", ".lzma", ".tlz"))
        and ("f" in flags or not os.path.lexists(path + ".xz"))
    )


def compress_file(host, path, flags):
    """Puts FILE.xz in the place of FILE, with its owner, mode and times."""
    source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if "c" in flags:
            host.compress(source, 1)
            return
        target = path + ".xz"
        if os.path.lexists(target):
            os.unlink(target)
        sink = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            host.compress(source, sink)
            found = os.fstat(source)
            os.fchown(sink, found.st_uid, found.st_gid)
            os.fchmod(sink, stat.S_IMODE(found.st_mode))
            os.utime(sink, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.close(sink)
        except BaseException:
            os.unlink(target)
            raise
        if "k" not in flags:
            os.unlink(path)
    finally:
        os.close(source)


def real(words):
    """The box's own xz takes over."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    here = os.path.dirname(os.path.abspath(__file__))
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if os.path.abspath(folder) != here)
    for folder in path.split(os.pathsep):
        program = os.path.join(folder, "xz")
        if os.access(program, os.X_OK) and not os.path.isdir(program):
            os.execv(program, ["xz"] + words)
    sys.stderr.write("xz: command not found\n")
    sys.exit(127)


def main(words):
    wishes = parse(words)
    if wishes is None:
        real(words)
    files, flags = wishes["files"], wishes["flags"]
    to_stdout = not files or "c" in flags
    if (
        (files and not takes_file(files[0], flags))
        or (not files and os.isatty(0))
        or (to_stdout and os.isatty(1))
    ):
        real(words)
    port = open_port()
    if port is None:
        real(words)
    host = Host(port)
    try:
        host.begin(wishes)
    except Refused:
        # Nothing has been read yet.
        real(words)
    try:
        if files:
            compress_file(host, files[0], flags)
        else:
            host.compress(0, 1)
    except Refused as error:
        sys.stderr.write("xz: %s\n" % error)
        sys.exit(1)
    except OSError as error:
        name = "%s: " % files[0] if files else ""
        sys.stderr.write("xz: %s%s\n" % (name, error.strerror or errno.errorcode.get(error.errno)))
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
