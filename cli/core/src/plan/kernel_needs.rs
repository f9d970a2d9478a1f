//! What the host's kernel must have to build an image type in a container (kiwi 11.1.6, `kiwi/builder`,
//! `kiwi/system/mount.py`).

use boxbuild_description::{Description, Element, Target};
use boxbuild_engine::podman::{KernelFeature, KernelNeeds};

use super::image_types::is_packed;

/// Returns what the kernel under a container must have to build what `target` selects: nothing if more
/// than one type may be built.
pub(super) fn of(description: Option<&Description>, target: &Target) -> KernelNeeds {
    let types = description.map(|description| description.types(target));
    let Some([element]) = types.as_deref() else {
        return KernelNeeds::default();
    };
    let image = element.attribute("image").unwrap_or_default();
    let mut needs = Needs(KernelNeeds {
        image_type: image.to_owned(),
        ..KernelNeeds::default()
    });
    match image {
        "ext2" | "ext3" | "ext4" | "btrfs" | "xfs" => {
            needs.filesystem(image, || format!("image=\"{image}\""));
        }
        "kis" | "pxe" => needs.mounted_root(element),
        "iso" => {
            needs.mounted_root(element);
            let is_systemd = |loader: &Element| loader.attribute("name") == Some("systemd_boot");
            if element.all("bootloader").any(is_systemd) {
                needs.filesystem("vfat", || String::from("bootloader=\"systemd_boot\""));
            }
            if element.attribute("luks").is_some() {
                needs.feature(KernelFeature::Encryption, "luks");
            }
        }
        "oem" => needs.disk(element),
        // Unpacked under a mount of overlayfs (RootImport.overlay_data).
        "docker" | "oci" if element.is_set("delta_root") => {
            needs.filesystem("overlay", || String::from("delta_root=\"true\""));
        }
        _ => {}
    }
    needs.0
}

struct Needs(KernelNeeds);

impl Needs {
    fn filesystem(&mut self, name: &str, why: impl Fn() -> String) {
        let name = match name {
            // Drivers of ext4 mount the older ones, too.
            "ext2" | "ext3" => "ext4",
            "fat16" | "fat32" => "vfat",
            name => name,
        };
        let known = &mut self.0.filesystems;
        if !known.iter().any(|(known, _)| known == name) {
            known.push((name.to_owned(), why()));
        }
    }

    fn feature(&mut self, feature: KernelFeature, why: &str) {
        self.0.features.push((feature, why.to_owned()));
    }

    fn attribute(&mut self, element: &Element, name: &str) {
        if let Some(value) = element.attribute(name) {
            self.filesystem(value, || format!("{name}=\"{value}\""));
        }
    }

    fn mounted_root(&mut self, element: &Element) {
        if !element.attribute("filesystem").is_none_or(is_packed) {
            self.attribute(element, "filesystem");
        }
    }

    fn disk(&mut self, element: &Element) {
        // btrfs has volumes of its own.
        let is_btrfs = element.attribute("filesystem") == Some("btrfs");
        let has_logical_volumes = element
            .all("systemdisk")
            .any(|volumes| !is_btrfs || volumes.is_set("preferlvm"));
        let raid = element.attribute("mdraid");
        if element.is_set("overlayroot") {
            // What is written beside it is only made; the boot partition has the same by default.
            let packed = "overlayroot_readonly_filesystem";
            if element.attribute(packed).is_some() {
                self.attribute(element, packed);
            } else {
                self.filesystem("squashfs", || String::from("overlayroot=\"true\""));
            }
            if element.attribute("bootfilesystem").is_none() {
                self.attribute(element, "filesystem");
            }
        } else {
            self.attribute(element, "filesystem");
        }
        let has_boot = match element.attribute("bootpartition") {
            Some(_) => element.is_set("bootpartition"),
            None => raid.is_some() || has_logical_volumes || element.is_set("overlayroot"),
        };
        if has_boot {
            self.attribute(element, "bootfilesystem");
        }
        self.attribute(element, "spare_part_fs");
        for partition in element
            .all("partitions")
            .flat_map(|all| all.all("partition"))
        {
            if let Some(name) = partition.attribute("filesystem") {
                self.filesystem(name, || format!("<partition filesystem=\"{name}\">"));
            }
        }
        if let Some(firmware @ ("efi" | "uefi")) = element.attribute("firmware") {
            self.filesystem("vfat", || format!("firmware=\"{firmware}\""));
        }
        match raid {
            Some("mirroring") => self.feature(KernelFeature::Mirror, "mdraid=\"mirroring\""),
            Some("striping") => self.feature(KernelFeature::Stripes, "mdraid=\"striping\""),
            _ => {}
        }
        if has_logical_volumes {
            self.feature(KernelFeature::Volumes, "<systemdisk>");
        }
        if element.attribute("luks").is_some() {
            self.feature(KernelFeature::Encryption, "luks");
        }
        if element.is_set("standalone_integrity") {
            self.feature(KernelFeature::Integrity, "standalone_integrity=\"true\"");
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What `ask` returns of a description.
    pub(in crate::plan) fn described<T>(
        text: &str,
        image_type: Option<&str>,
        ask: impl FnOnce(Option<&Description>, &Target) -> T,
    ) -> T {
        use boxbuild_description::{BoxView, Inspection, Wanted};
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.kiwi"), text).unwrap();
        let view = BoxView::new(dir.path(), dir.path(), Vec::new());
        let target = Target {
            image_type: image_type.map(str::to_owned),
            ..Target::default()
        };
        let wanted = Wanted {
            target: target.clone(),
            ..Wanted::default()
        };
        let inspection = Inspection::of(&view, &wanted).unwrap();
        ask(inspection.description.as_ref(), &target)
    }

    fn needs(attributes: &str) -> String {
        let text = format!("<image><preferences><type {attributes}</preferences></image>");
        let needs = described(&text, None, of);
        let filesystems = needs.filesystems.iter();
        let mut words: Vec<String> = filesystems.map(|(name, _)| name.clone()).collect();
        words.extend(needs.features.iter().map(|(part, _)| format!("{part:?}")));
        words.join(" ")
    }

    #[test]
    fn the_kernel_must_have_what_a_type_is_made_with() {
        for (attributes, expected) in [
            (
                "image='oem' filesystem='ext3' firmware='uefi'/>",
                "ext4 vfat",
            ),
            (
                "image='oem' filesystem='xfs' firmware='bios'><systemdisk/></type>",
                "xfs Volumes",
            ),
            (
                "image='oem' filesystem='btrfs' luks='x'><systemdisk/></type>",
                "btrfs Encryption",
            ),
            (
                "image='oem' filesystem='btrfs'><systemdisk preferlvm='true'/></type>",
                "btrfs Volumes",
            ),
            // An empty pass phrase is one.
            ("image='oem' filesystem='ext4' luks=''/>", "ext4 Encryption"),
            (
                "image='oem' filesystem='ext4' mdraid='mirroring' bootfilesystem='fat32'/>",
                "ext4 vfat Mirror",
            ),
            (
                "image='oem' filesystem='ext4' mdraid='striping'/>",
                "ext4 Stripes",
            ),
            // Without a boot partition, its file system is not made.
            (
                "image='oem' filesystem='ext4' bootfilesystem='xfs'/>",
                "ext4",
            ),
            (
                "image='oem' filesystem='ext4' overlayroot='true' bootfilesystem='ext2'/>",
                "squashfs ext4",
            ),
            (
                "image='oem' filesystem='xfs' overlayroot='true' \
                 overlayroot_readonly_filesystem='erofs'/>",
                "erofs xfs",
            ),
            (
                "image='oem' filesystem='ext4' spare_part_fs='btrfs'><partitions>\
                 <partition name='a' filesystem='fat16'/></partitions></type>",
                "ext4 btrfs vfat",
            ),
            (
                "image='oem' filesystem='ext4' standalone_integrity='true'/>",
                "ext4 Integrity",
            ),
            ("image='ext2'/>", "ext4"),
            ("image='btrfs'/>", "btrfs"),
            ("image='squashfs'/>", ""),
            ("image='tbz'/>", ""),
            ("image='kis' filesystem='xfs'/>", "xfs"),
            ("image='pxe' filesystem='squashfs'/>", ""),
            ("image='iso' firmware='uefi'/>", ""),
            ("image='iso' filesystem='ext4'/>", "ext4"),
            (
                "image='iso' luks='x'><bootloader name='systemd_boot'/></type>",
                "vfat Encryption",
            ),
            (
                "image='oci' delta_root='true' derived_from='file:///x'/>",
                "overlay",
            ),
            ("image='oci'/>", ""),
        ] {
            assert_eq!(needs(attributes), expected, "{attributes}");
        }
    }

    #[test]
    fn nothing_is_needed_for_certain_of_one_of_two() {
        let text = "<image><preferences><type image='oem' filesystem='xfs'/></preferences>\
             <preferences profiles='a'><type image='tbz'/></preferences></image>";
        let needs = described(text, Some("kis"), of);
        assert_eq!(needs, KernelNeeds::default());
    }
}
