//! What the host's kernel must have to build an image type in a container (kiwi 11.1.6, `kiwi/builder`,
//! `kiwi/system/mount.py`).

use boxbuild_description::{BuildType, Description, Target};
use boxbuild_engine::podman::{KernelFeature, KernelNeeds};

/// Returns what the kernel under a container must have to build what `target` selects, with attributes that
/// are `set` by the command line: nothing if more than one type may be built.
pub(super) fn of(
    description: Option<&Description>,
    target: &Target,
    set: &[(String, String)],
) -> KernelNeeds {
    let Some(kind) = description.and_then(|description| description.build_type(target, set)) else {
        return KernelNeeds::default();
    };
    let mut needs = Needs(KernelNeeds {
        image_type: kind.image().to_owned(),
        ..KernelNeeds::default()
    });
    for made in kind.file_systems() {
        if made.mounted {
            needs.filesystem(made.name, || made.why.clone());
        }
    }
    match kind.image() {
        "iso" => {
            if kind.loader() == "systemd_boot" {
                needs.filesystem("vfat", || String::from("bootloader=\"systemd_boot\""));
            }
            if kind.get("luks").is_some() {
                needs.feature(KernelFeature::Encryption, "luks");
            }
        }
        "oem" => needs.disk(&kind),
        // Unpacked under a mount of overlayfs (RootImport.overlay_data).
        "docker" | "oci" if kind.is_set("delta_root") => {
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

    fn disk(&mut self, kind: &BuildType<'_>) {
        match kind.get("mdraid") {
            Some("mirroring") => self.feature(KernelFeature::Mirror, "mdraid=\"mirroring\""),
            Some("striping") => self.feature(KernelFeature::Stripes, "mdraid=\"striping\""),
            _ => {}
        }
        if kind.has_logical_volumes() {
            self.feature(KernelFeature::Volumes, "<systemdisk>");
        }
        if kind.get("luks").is_some() {
            self.feature(KernelFeature::Encryption, "luks");
        }
        if kind.is_set("standalone_integrity") {
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
        set: &[(&str, &str)],
        ask: impl FnOnce(Option<&Description>, &Target, &[(String, String)]) -> T,
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
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        ask(inspection.description.as_ref(), &target, &set)
    }

    fn needs(attributes: &str) -> String {
        needs_with(attributes, &[])
    }

    fn needs_with(attributes: &str, set: &[(&str, &str)]) -> String {
        let text = format!("<image><preferences><type {attributes}</preferences></image>");
        let needs = described(&text, None, set, of);
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
                "image='oem' filesystem='ext4' spare_part='5M' spare_part_fs='btrfs'><partitions>\
                 <partition name='a' filesystem='fat16'/></partitions></type>",
                "ext4 btrfs vfat",
            ),
            // No such partition is made.
            (
                "image='oem' filesystem='ext4' spare_part_fs='btrfs'/>",
                "ext4",
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

    /// A build that could not have been made was started, and one that could have been was refused.
    #[test]
    fn attributes_of_the_command_line_count() {
        let kind = "image='oem' filesystem='ext4' firmware='efi' luks='x'/>";
        assert_eq!(needs(kind), "ext4 vfat Encryption");
        let set = [("firmware", "bios"), ("filesystem", "xfs")];
        assert_eq!(needs_with(kind, &set), "xfs Encryption");
        let set = [("overlayroot", "false")];
        let kind = "image='oem' filesystem='ext4' overlayroot='true'/>";
        assert_eq!(needs_with(kind, &set), "ext4");
    }

    #[test]
    fn nothing_is_needed_for_certain_of_one_of_two() {
        let text = "<image><preferences><type image='oem' filesystem='xfs'/></preferences>\
             <preferences profiles='a'><type image='tbz'/></preferences></image>";
        let needs = described(text, Some("kis"), &[], of);
        assert_eq!(needs, KernelNeeds::default());
    }
}
