"""What kiwi's archives look like to the patch (kiwi 11.1.6, kiwi/archive/tar.py): prints their options."""

import json
import sys
from importlib.machinery import ModuleSpec


class Loader:
    """Makes the modules of kiwi."""

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        if module.__name__ == "kiwi.archive.tar":
            module.ArchiveTar = ArchiveTar


class ArchiveTar:
    def __init__(self, filename):
        keeps = filename == "with"
        self.xattrs_options = ["--xattrs", "--xattrs-include=*"] if keeps else []


class Finder:
    """Finds the modules of kiwi."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] != "kiwi":
            return None
        return ModuleSpec(name, Loader(), is_package=True)


sys.meta_path.append(Finder)

from kiwi.archive.tar import ArchiveTar as Patched  # noqa: E402

print(json.dumps([Patched(name).xattrs_options for name in ("with", "without")]))
