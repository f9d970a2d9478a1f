//! The type that a build comes to, as kiwi reads it (kiwi 11.1.6, `builder/disk.py`, `storage/setup.py`, `firmware.py`).

use crate::element::{Element, Place};
use crate::inspect::Description;
use crate::selection::Target;

/// Architectures whose firmware is EFI unless the description says otherwise (kiwi's `defaults.py`,
/// `get_default_firmware`).
const EFI_ARCHITECTURES: &[&str] = &[
    "aarch64",
    "arm64",
    "armv5el",
    "armv5tel",
    "armv6hl",
    "armv6l",
    "armv7hl",
    "armv7l",
    "armv8l",
    "loongarch64",
    "riscv64",
];

/// A `<type>`, with what the command line changes of it (`--set-type-attr`).
#[derive(Debug, Clone, Copy)]
pub struct BuildType<'a> {
    element: &'a Element,
    set: &'a [(String, String)],
    arch: Option<&'a str>,
}

/// A file system that kiwi makes for an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem<'a> {
    /// Its kind, as kiwi calls it.
    pub name: &'a str,
    /// What asks for it, as the description says it.
    pub why: String,
    /// kiwi mounts it; others are packed by a program, or only made.
    pub mounted: bool,
}

impl<'a> BuildType<'a> {
    /// The type `element`, with attributes that are `set` by the command line, built for `arch`.
    pub fn new(
        element: &'a Element,
        set: &'a [(String, String)],
        arch: Option<&'a str>,
    ) -> BuildType<'a> {
        BuildType { element, set, arch }
    }

    /// Returns the image type.
    pub fn image(&self) -> &'a str {
        self.get("image").unwrap_or_default()
    }

    /// Returns where it stands.
    pub fn place(&self) -> &'a Place {
        &self.element.place
    }

    /// Returns the value of an attribute. One that is empty is none, but an empty pass phrase is one.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let mut set = self.set.iter().rev();
        set.find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .or_else(|| self.element.attribute(name))
            .filter(|value| !value.is_empty() || name == "luks")
    }

    /// Returns whether an attribute is true.
    pub fn is_set(&self, name: &str) -> bool {
        matches!(self.get(name), Some("true" | "1"))
    }

    /// Returns an attribute with its value, as the description says it.
    pub fn said(&self, name: &str) -> String {
        format!("{name}=\"{}\"", self.get(name).unwrap_or_default())
    }

    /// Returns the elements of this name in it.
    pub fn all<'b>(&self, name: &'b str) -> impl Iterator<Item = &'a Element> + use<'a, 'b> {
        let children = self.element.children.iter();
        children.filter(move |child| child.name == name)
    }

    /// Returns what asks for EFI, if the image starts by it.
    pub fn efi(&self) -> Option<String> {
        match (self.get("firmware"), self.arch) {
            (Some("efi" | "uefi"), _) => Some(self.said("firmware")),
            (None, Some(arch)) if EFI_ARCHITECTURES.contains(&arch) => {
                Some(format!("the firmware of {arch}"))
            }
            _ => None,
        }
    }

    /// Returns whether its disk has a partition table of DOS (`get_partition_table_type`).
    pub fn has_dos_table(&self) -> bool {
        match self.arch {
            Some("s390" | "s390x") => !["CDL", "GPT"].iter().any(|kind| self.is_target(kind)),
            Some("ppc64" | "ppc64le") => false,
            _ => self.efi().is_none() || self.get("efiparttable") == Some("msdos"),
        }
    }

    /// Returns whether its disk is a DASD of a mainframe, with a table of its own.
    pub fn is_dasd(&self) -> bool {
        matches!(self.arch, Some("s390" | "s390x")) && self.is_target("CDL")
    }

    fn is_target(&self, kind: &str) -> bool {
        let mut loaders = self.all("bootloader");
        loaders.any(|loader| {
            loader
                .attribute("targettype")
                .is_some_and(|known| known.contains(kind))
        })
    }

    /// Returns the name of its boot loader.
    pub fn loader(&self) -> &'a str {
        let mut loaders = self.all("bootloader");
        loaders
            .find_map(|loader| loader.attribute("name"))
            .unwrap_or("grub2")
    }

    /// Returns whether its disk has logical volumes (`get_volume_management` in `xml_state.py`).
    pub fn has_logical_volumes(&self) -> bool {
        let is_btrfs = self.get("filesystem") == Some("btrfs");
        self.all("systemdisk")
            .next()
            .is_some_and(|disk| disk.is_set("preferlvm") || !is_btrfs)
    }

    /// Returns whether its disk has a partition for `/boot` (`need_boot_partition`).
    pub fn has_boot_partition(&self) -> bool {
        if self.get("bootpartition").is_some() {
            return self.is_set("bootpartition");
        }
        let has_volumes = self.all("systemdisk").next().is_some();
        self.get("mdraid").is_some()
            || self.has_logical_volumes()
            || (!has_volumes && self.is_set("overlayroot"))
    }

    /// Returns the file systems that kiwi makes for it, beside those in its medium and in a root on EFI.
    pub fn file_systems(&self) -> Vec<FileSystem<'a>> {
        let mut found = Vec::new();
        match self.image() {
            kind @ ("squashfs" | "erofs") => found.push(self.as_image(kind, false)),
            kind @ ("ext2" | "ext3" | "ext4" | "btrfs" | "xfs" | "fat16" | "fat32") => {
                found.push(self.as_image(kind, true));
            }
            "kis" | "pxe" | "iso" => {
                let packed = self.get("filesystem").is_some_and(is_packed);
                found.extend(self.by("filesystem", !packed));
            }
            "oem" => self.add_those_of_disk(&mut found),
            _ => {}
        }
        found
    }

    fn as_image(&self, kind: &'a str, mounted: bool) -> FileSystem<'a> {
        FileSystem {
            name: kind,
            why: self.said("image"),
            mounted,
        }
    }

    fn by(&self, attribute: &str, mounted: bool) -> Option<FileSystem<'a>> {
        self.get(attribute).map(|name| FileSystem {
            name,
            why: self.said(attribute),
            mounted,
        })
    }

    fn add_those_of_disk(&self, found: &mut Vec<FileSystem<'a>>) {
        if self.is_set("overlayroot") {
            let packed = self.by("overlayroot_readonly_filesystem", true);
            found.push(packed.unwrap_or_else(|| FileSystem {
                name: "squashfs",
                why: self.said("overlayroot"),
                mounted: true,
            }));
            // What is written beside it is only made.
            if self.get("overlayroot_write_partition").is_none()
                || self.is_set("overlayroot_write_partition")
            {
                found.extend(self.by("filesystem", false));
            }
        } else {
            found.extend(self.by("filesystem", true));
        }
        if self.has_boot_partition() {
            let boot = self.by("bootfilesystem", true);
            found.extend(boot.or_else(|| self.by("filesystem", true)));
        }
        if self.get("spare_part").is_some() {
            found.extend(self.by("spare_part_fs", true));
        }
        let partitions = self.all("partitions").flat_map(|all| &all.children);
        for partition in partitions.filter(|child| child.name == "partition") {
            found.extend(partition.attribute("filesystem").map(|name| FileSystem {
                name,
                why: format!("<partition filesystem=\"{name}\">"),
                mounted: true,
            }));
        }
        if let Some(why) = self.efi() {
            found.push(FileSystem {
                name: "fat16",
                why,
                mounted: true,
            });
        }
    }
}

/// Whether a program packs a file system, without mounting it (`filesystems_no_device_node`).
pub fn is_packed(filesystem: &str) -> bool {
    matches!(filesystem, "squashfs" | "erofs")
}

impl Description {
    /// Returns the type that `target` selects, with attributes that are `set` by the command line: none if
    /// only the box can tell which one is built.
    pub fn build_type<'a>(
        &'a self,
        target: &'a Target,
        set: &'a [(String, String)],
    ) -> Option<BuildType<'a>> {
        match self.types(target).as_slice() {
            [element] => Some(BuildType::new(element, set, target.arch.as_deref())),
            _ => None,
        }
    }
}
