"""A type with attributes as kiwi has it (kiwi/xml_parse.py, which generateDS makes), and `--set-type-attr`
(kiwi/tasks/system_build.py).

    python3 type_like.py PATCH [KIWI]

Prints what the attributes are. With KIWI, a folder with kiwi's source, its own class is taken.
"""
import json
import os
import runpy
import sys
import types


class type_:
    def __init__(self, overlayroot=None, efipartsize=None, filesystem=None):
        self.overlayroot, self.efipartsize, self.filesystem = overlayroot, efipartsize, filesystem

    def set_overlayroot(self, overlayroot):
        self.overlayroot = overlayroot

    def set_efipartsize(self, efipartsize):
        self.efipartsize = efipartsize

    def set_filesystem(self, filesystem):
        self.filesystem = filesystem

    # No attribute: an element in it.
    def set_size(self, size):
        self.size = size

    def buildAttributes(self, node, attrs, already_processed):
        value = node.attrib.get("overlayroot")
        if value is not None and "overlayroot" not in already_processed:
            already_processed.add("overlayroot")
            if value in ("true", "1"):
                self.overlayroot = True
            elif value in ("false", "0"):
                self.overlayroot = False
            else:
                raise ValueError("Bad boolean attribute (element %s/line %d)" % (node.tag, node.sourceline))
        value = node.attrib.get("efipartsize")
        if value is not None:
            self.efipartsize = int(value)
        value = node.attrib.get("filesystem")
        if value is not None:
            self.filesystem = " ".join(value.split())


module = types.SimpleNamespace(type_=type_)
if len(sys.argv) > 2:
    sys.path.insert(0, sys.argv[2])
    import kiwi.xml_parse as module
if "PLAIN" not in os.environ:
    runpy.run_path(sys.argv[1])["patch_type"](module)
found = []
for name, value in [
    ("overlayroot", "false"),
    ("overlayroot", "1"),
    ("efipartsize", "64"),
    ("filesystem", "ext4"),
    ("filesystem", ""),
    ("overlayroot", True),
    ("overlayroot", None),
    ("size", "7"),
]:
    kind = module.type_()
    getattr(kind, "set_" + name)(value)
    found.append(getattr(kind, name))
try:
    module.type_().set_overlayroot("perhaps")
    found.append("taken")
except Exception as error:
    found.append(str(error))
print(json.dumps(found))
