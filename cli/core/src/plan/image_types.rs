//! Image types, as far as a container must know them: which ones need loop devices.

use boxbuild_description::{Description, Target};
use boxbuild_engine::podman::KernelNeeds;

/// Whether kiwi attaches a loop device when it builds a type (kiwi 11, `kiwi/builder`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    /// Never: archives, container images, trees packed by a tool.
    Never,
    /// With some attributes of the type only (`filesystem`, `luks`, `flags`).
    Maybe,
    /// Always.
    Always,
}

/// What is known of a type. A name that kiwi may have learnt since then may need one.
fn need(image_type: &str) -> Loop {
    match image_type {
        "tbz" | "cpio" | "docker" | "oci" | "appx" | "wsl" | "squashfs" | "erofs" | "enclave" => {
            Loop::Never
        }
        "oem" | "ext2" | "ext3" | "ext4" | "btrfs" | "xfs" | "fat16" | "fat32" => Loop::Always,
        _ => Loop::Maybe,
    }
}

/// The image types that a build may come to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImageTypes(Vec<String>);

impl ImageTypes {
    /// The types that `target` selects of a description: one, or several if only the box can tell.
    pub(super) fn of(description: Option<&Description>, target: &Target) -> ImageTypes {
        if let Some(asked) = &target.image_type {
            return ImageTypes(vec![asked.clone()]);
        }
        let types = description.map(|description| description.types(target));
        let names = types
            .iter()
            .flatten()
            .filter_map(|element| element.attribute("image"));
        ImageTypes(names.map(str::to_owned).collect())
    }

    /// One of them that needs loop devices, if all do: only kiwi knows which of several the
    /// profiles select.
    pub fn with_loop_devices(&self) -> Option<&str> {
        if self.0.iter().all(|name| need(name) == Loop::Always) {
            self.0.first().map(String::as_str)
        } else {
            None
        }
    }

    /// Whether a loop device may be needed. If nothing is known of the types, it may.
    pub fn may_need_loop_devices(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|name| need(name) != Loop::Never)
    }
}

/// Returns what the kernel under a container must have to build what `target` selects: nothing if more
/// than one type may be built.
pub(super) fn kernel_needs(description: Option<&Description>, target: &Target) -> KernelNeeds {
    let mut needs = KernelNeeds::default();
    let types = description.map(|description| description.types(target));
    let Some([element]) = types.as_deref() else {
        return needs;
    };
    let image = element.attribute("image").unwrap_or_default();
    needs.image_type = image.to_owned();
    let mut filesystem = |name: &str| {
        // Drivers of ext4 mount the older ones, too.
        let name = if matches!(name, "ext2" | "ext3") {
            "ext4"
        } else {
            name
        };
        needs.filesystems.push(name.to_owned());
    };
    match image {
        "ext2" | "ext3" | "ext4" | "btrfs" | "xfs" => filesystem(image),
        "oem" => {
            if let Some(root) = element.attribute("filesystem") {
                filesystem(root);
            }
            if let Some(boot) = element.attribute("bootfilesystem") {
                filesystem(if boot.starts_with("fat") {
                    "vfat"
                } else {
                    boot
                });
            }
            let firmware = element.attribute("firmware").unwrap_or_default();
            if matches!(firmware, "efi" | "uefi") {
                filesystem("vfat");
            }
            let has_volumes = element.all("systemdisk").next().is_some()
                && element.attribute("filesystem") != Some("btrfs");
            needs.device_mapper = has_volumes || element.attribute("luks").is_some();
        }
        _ => {}
    }
    needs.filesystems.sort();
    needs.filesystems.dedup();
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_devices_are_needed_for_disks_only() {
        let types = |names: &[&str]| ImageTypes(names.iter().map(|s| (*s).to_owned()).collect());
        assert_eq!(types(&["oem"]).with_loop_devices(), Some("oem"));
        assert_eq!(types(&["oem", "tbz"]).with_loop_devices(), None);
        assert!(types(&["oem", "tbz"]).may_need_loop_devices());
        // A live system has one only if its root is neither squashfs nor erofs.
        assert_eq!(types(&["iso"]).with_loop_devices(), None);
        assert!(types(&["iso"]).may_need_loop_devices());
        assert!(!types(&["docker", "tbz"]).may_need_loop_devices());
        assert!(types(&[]).may_need_loop_devices());
        assert_eq!(types(&[]).with_loop_devices(), None);
    }

    fn with(text: &str, image_type: Option<&str>) -> (ImageTypes, KernelNeeds) {
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
        let description = inspection.description.as_ref();
        (
            ImageTypes::of(description, &target),
            kernel_needs(description, &target),
        )
    }

    #[test]
    fn an_asked_for_type_wins() {
        let text =
            "<image><preferences><type image=\"oem\"/><type image=\"tbz\"/></preferences></image>";
        assert_eq!(with(text, None).0.with_loop_devices(), Some("oem"));
        assert!(!with(text, Some("tbz")).0.may_need_loop_devices());
        assert_eq!(with("<image/>", None).0, ImageTypes(Vec::new()));
    }

    #[test]
    fn the_kernel_must_have_the_file_systems_of_a_disk() {
        let needs = |attributes: &str| {
            let text = format!("<image><preferences><type {attributes}</preferences></image>");
            let needs = with(&text, None).1;
            (needs.filesystems.join(" "), needs.device_mapper)
        };
        let is = |names: &str, mapper: bool| (names.to_owned(), mapper);
        assert_eq!(
            needs("image='oem' filesystem='ext3' firmware='uefi'/>"),
            is("ext4 vfat", false)
        );
        assert_eq!(
            needs("image='oem' filesystem='xfs' firmware='bios'><systemdisk/></type>"),
            is("xfs", true)
        );
        assert_eq!(
            needs("image='oem' filesystem='btrfs' luks='x'><systemdisk/></type>"),
            is("btrfs", true)
        );
        assert_eq!(needs("image='tbz'/>"), is("", false));
        assert_eq!(needs("image='iso' firmware='uefi'/>"), is("", false));
    }
}
