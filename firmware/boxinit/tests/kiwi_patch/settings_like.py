"""Settings as kiwi reads them (kiwi/runtime_config.py), in its form up to 10 and since 11.

    python3 settings_like.py PATCH

Prints what settings of both forms are, by the kiwi of each, unpatched and patched.
"""
import json
import os
import runpy
import sys
import tempfile
import types

LISTS = {"iso": [{"media_tag_tool": "isomd5sum"}, {"media_tag_tool": "other"}], "xz": [{"options": "-1"}]}
MAPPINGS = {"iso": {"media_tag_tool": "isomd5sum"}, "bundle": {"compress": False}}


def kiwi_10(module):
    class RuntimeConfig:
        def _get_attribute(self, element, attribute):
            if element in module.RUNTIME_CONFIG:
                for attribute_dict in module.RUNTIME_CONFIG[element]:
                    if attribute in attribute_dict:
                        return attribute_dict[attribute]

    return RuntimeConfig


def kiwi_11(module):
    class RuntimeConfig:
        def _get_attribute(self, element, attribute):
            for key, value in module.RUNTIME_CONFIG.get(element, {}).items():
                if key == attribute:
                    return value

        @staticmethod
        def _merge(master, slave, depth=0):
            if not isinstance(master, dict):
                return slave
            for key in slave:
                if key in master and isinstance(master[key], dict) != isinstance(slave[key], dict):
                    raise NotImplementedError("No strategy for merge non-dict into dict")
                master[key] = RuntimeConfig._merge(master[key], slave[key], depth + 1) if key in master else slave[key]
            return master

    return RuntimeConfig


def asked(kind, settings, patched):
    module = types.SimpleNamespace(RUNTIME_CONFIG=settings)
    module.RuntimeConfig = kind(module)
    if patched:
        runpy.run_path(sys.argv[1])["patch_settings"](module)
    config = module.RuntimeConfig()
    found = []
    for section, name in [("iso", "media_tag_tool"), ("xz", "options"), ("bundle", "compress"), ("oci", "archive_tool")]:
        try:
            found.append(config._get_attribute(section, name))
        except Exception as error:
            found.append(type(error).__name__)
    if hasattr(module.RuntimeConfig, "_merge"):
        try:
            both = module.RuntimeConfig._merge(json.loads(json.dumps(MAPPINGS)), json.loads(json.dumps(LISTS)))
            found.append(both["xz"])
        except NotImplementedError:
            found.append("refused")
    return found


def media_tag_tool(*programs):
    """What marks media in a box with these programs and no setting."""
    with tempfile.TemporaryDirectory() as folder:
        for name in programs:
            with open(os.path.join(folder, name), "w") as program:
                os.fchmod(program.fileno(), 0o755)
        os.environ["PATH"] = folder
        return asked(kiwi_11, {"xz": {"options": "-1"}}, True)[0]


forms = [(kiwi_10, LISTS), (kiwi_10, MAPPINGS), (kiwi_11, LISTS), (kiwi_11, MAPPINGS)]
found = [asked(kind, settings, patched) for patched in (False, True) for kind, settings in forms]
marks = [media_tag_tool(), media_tag_tool("implantisomd5"), media_tag_tool("implantisomd5", "tagmedia")]
print(json.dumps([marks] + found))
