"""Copies an overlay as kiwi does, with a stand-in for rsync, and prints what rsync was asked for.

    python3 overlay_like.py OVERLAY IMAGE

The class has the interface of kiwi 11.1 (kiwi/system/setup.py, kiwi/utils/sync.py).
"""

import json
import sys
import types

MODULE = '''
class DataSync:
    def __init__(self, source_dir, target_dir):
        self.source_dir = source_dir
        self.target_dir = target_dir

    def sync_data(self, options=[], exclude=[], force_trailing_slash=False):
        calls.append([self.source_dir, self.target_dir, options])


class SystemSetup:
    def _sync_overlay_files(self, overlay, follow_links=False):
        DataSync(overlay, self.root_dir).sync_data(options=["-r", "--links"])
'''


class Loader:
    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        module.calls = calls
        exec(MODULE, module.__dict__)


class LastFinder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "kiwi.system.setup":
            return None
        spec = types.SimpleNamespace(
            name=name, loader=Loader, origin=None, submodule_search_locations=None,
            parent="kiwi.system", has_location=False, cached=None, loader_state=None,
        )
        return spec


calls = []
for name in ("kiwi", "kiwi.system"):
    package = types.ModuleType(name)
    package.__path__ = []
    sys.modules[name] = package
sys.meta_path.append(LastFinder)
import kiwi.system.setup as setup  # noqa: E402

system = setup.SystemSetup()
system.root_dir = sys.argv[2]
system._sync_overlay_files(sys.argv[1])
assert setup.DataSync.__name__ == "DataSync"
print(json.dumps(calls))
