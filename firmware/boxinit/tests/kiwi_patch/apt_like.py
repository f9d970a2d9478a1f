"""apt's transactions as kiwi makes them (kiwi/package_manager/apt.py): the packages of a kernel and of what makes its
initial ramdisk, as their maintainer scripts are.

    python3 apt_like.py PATCH ROOT KERNEL...

Each KERNEL is installed in a transaction of its own. Prints what the hooks said, in their order.
"""
import os
import runpy
import subprocess
import sys
import types

PATCH, ROOT, KERNELS = sys.argv[1], sys.argv[2], sys.argv[3:]
HOOKS = os.path.join(ROOT, "etc/kernel/postinst.d")


def hooks(kernel, environment):
    """What a kernel's package calls."""
    path = os.path.join(ROOT, "boot/vmlinuz-" + kernel)
    command = ["run-parts", "--exit-on-error", "--arg=" + kernel, "--arg=" + path, HOOKS]
    subprocess.run(command, env=environment, check=True)


class PackageManagerApt:
    def __init__(self):
        self.root_dir = ROOT
        self.custom_args = ["--no-install-recommends"]
        self.command_env = dict(os.environ)

    def process_install_requests(self):
        command = ["chroot", self.root_dir, "apt-get"] + self.custom_args + ["install"]
        return self.install(command, self.command_env)

    def install(self, command, environment):
        open(os.path.join(ROOT, "boot/vmlinuz-" + self.kernel), "w").close()
        hooks(self.kernel, environment)
        # The trigger of dracut.
        for name in sorted(os.listdir(os.path.join(ROOT, "boot"))):
            if name.startswith("vmlinuz-"):
                kernel = name[len("vmlinuz-") :]
                dracut = [os.path.join(HOOKS, "dracut"), kernel]
                subprocess.run(dracut, env=environment, check=True)
        for option in command:
            name, _, value = option.partition("::=")
            if name == "-oDPkg::Post-Invoke":
                value = value.replace("/boot/", ROOT + "/boot/").replace("/etc/", ROOT + "/etc/")
                return subprocess.run(["sh", "-c", value], env=environment).returncode
        return 0


if "PLAIN" not in os.environ:
    patch = runpy.run_path(PATCH)["patch_apt"]
    patch(types.SimpleNamespace())
    patch(types.SimpleNamespace(PackageManagerApt=PackageManagerApt))
manager = PackageManagerApt()
before = (manager.custom_args, manager.command_env)
for manager.kernel in KERNELS:
    code = manager.process_install_requests()
    assert before == (manager.custom_args, manager.command_env)
    if code:
        sys.exit("apt-get fails")
