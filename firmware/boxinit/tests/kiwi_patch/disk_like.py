"""A disk of a DOS partition table as kiwi makes it (kiwi/builder/disk.py, create_disk), with the steps that matter
for its identifier, in their order.

    python3 disk_like.py PATCH DISK

Prints what the image is told of its root partition: in dracut's profile, in its boot loader, and what it is called.
"""
import json
import os
import runpy
import struct
import sys
import types

OFFSET = 440  # of the identifier in a master boot record


class Provider:
    def get_device(self):
        return sys.argv[2]


class Disk:
    storage_provider = Provider()


class SystemIdentifier:
    def write_to_disk(self, provider):
        with open(provider.get_device(), "r+b") as disk:
            disk.seek(OFFSET)
            disk.write(struct.pack("<I", 0x1D461992))


def partuuid():
    with open(sys.argv[2], "rb") as disk:
        disk.seek(OFFSET)
        return "%08x-02" % struct.unpack("<I", disk.read(4))


class DiskBuilder:
    def create_disk(self):
        with open(sys.argv[2], "wb") as table:
            table.write(struct.pack("<440xI68x", 0x125A42D0))
        disk = Disk()
        self._preserve_root_partition_uuid({"root": "loop0p2"})
        self.mbrid = SystemIdentifier()
        self._write_partition_id_config_to_boot_image(disk)
        self.loader = partuuid()
        self.mbrid.write_to_disk(disk.storage_provider)

    def _preserve_root_partition_uuid(self, device_map):
        assert device_map == {"root": "loop0p2"}
        self.profile = partuuid()

    def _write_partition_id_config_to_boot_image(self, disk):
        assert isinstance(disk, Disk)


patch = runpy.run_path(sys.argv[1])["patch_disk"]
patch(types.SimpleNamespace())
if os.environ.get("PLAIN") is None:
    patch(types.SimpleNamespace(DiskBuilder=DiskBuilder))
builder = DiskBuilder()
builder.create_disk()
print(json.dumps([builder.profile, builder.loader, partuuid()]))
