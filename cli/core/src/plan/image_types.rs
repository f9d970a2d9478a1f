//! Image types, as far as a container must know them: which ones need loop devices.

use boxbuild_description::{BuildType, Description, Target, is_packed};

/// Whether kiwi attaches a loop device when it builds a type (kiwi 11.1.6, `kiwi/builder`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loop {
    /// Never: archives, container images, trees packed by a tool.
    Never,
    /// With some attributes, which are not known.
    Maybe,
    /// Always.
    Always,
}

/// What is known of a type by its name. One that kiwi may have learnt since then may need one.
fn by_name(image_type: &str) -> Loop {
    match image_type {
        "tbz" | "cpio" | "docker" | "oci" | "appx" | "wsl" | "squashfs" | "erofs" | "enclave" => {
            Loop::Never
        }
        "oem" | "ext2" | "ext3" | "ext4" | "btrfs" | "xfs" | "fat16" | "fat32" => Loop::Always,
        _ => Loop::Maybe,
    }
}

/// One type that a build may come to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(into = "String")]
struct ImageType {
    name: String,
    /// The attribute that makes kiwi attach one, as it stands in a description.
    why: Option<String>,
    loops: Loop,
}

impl From<ImageType> for String {
    fn from(image_type: ImageType) -> String {
        image_type.name
    }
}

impl ImageType {
    fn named(name: &str) -> ImageType {
        ImageType {
            name: name.to_owned(),
            why: None,
            loops: by_name(name),
        }
    }

    fn of(kind: &BuildType<'_>) -> Option<ImageType> {
        let mut known = ImageType::named(kind.get("image")?);
        let is_mounted = kind.get("filesystem").is_some_and(|name| !is_packed(name));
        let has_systemd_boot = kind.loader() == "systemd_boot";
        known.why = match known.name.as_str() {
            // FileSystemBuilder, LiveImageBuilder
            "kis" | "pxe" | "iso" if is_mounted => Some(kind.said("filesystem")),
            "iso" if kind.get("luks").is_some() => Some(String::from("luks")),
            "iso" if has_systemd_boot => Some(String::from("bootloader=\"systemd_boot\"")),
            "kis" | "pxe" | "iso" => None,
            _ => return Some(known),
        };
        known.loops = if known.why.is_some() {
            Loop::Always
        } else {
            Loop::Never
        };
        Some(known)
    }

    fn label(&self) -> String {
        match &self.why {
            Some(why) => format!("{} with {why}", self.name),
            None => self.name.clone(),
        }
    }
}

/// The image types that a build may come to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImageTypes(Vec<ImageType>);

impl ImageTypes {
    /// The types that `target` selects of a description, with attributes that are `set` by the command line:
    /// one, or several if only the box can tell.
    pub(super) fn of(
        description: Option<&Description>,
        target: &Target,
        set: &[(String, String)],
    ) -> ImageTypes {
        let types = description.map(|description| description.types(target));
        let types = types.iter().flatten();
        let arch = target.arch.as_deref();
        let kinds = types.map(|element| BuildType::new(element, set, arch));
        let found: Vec<ImageType> = kinds.filter_map(|kind| ImageType::of(&kind)).collect();
        match &target.image_type {
            Some(asked) if found.is_empty() || found.iter().any(|known| known.name != *asked) => {
                ImageTypes(vec![ImageType::named(asked)])
            }
            _ => ImageTypes(found),
        }
    }

    /// What needs loop devices, if all do: only kiwi knows which of several the profiles select.
    pub fn with_loop_devices(&self) -> Option<String> {
        if self.0.iter().all(|known| known.loops == Loop::Always) {
            self.0.first().map(ImageType::label)
        } else {
            None
        }
    }

    /// Whether a loop device may be needed. If nothing is known of the types, it may.
    pub fn may_need_loop_devices(&self) -> bool {
        self.0.is_empty() || self.0.iter().any(|known| known.loops != Loop::Never)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernel_needs::tests::described;
    use super::*;

    fn types(text: &str, image_type: Option<&str>) -> ImageTypes {
        described(text, image_type, &[], ImageTypes::of)
    }

    fn one(attributes: &str) -> ImageTypes {
        let text = format!("<image><preferences><type {attributes}</preferences></image>");
        types(&text, None)
    }

    #[test]
    fn loop_devices_are_needed_for_disks_only() {
        let types =
            |names: &[&str]| ImageTypes(names.iter().map(|name| ImageType::named(name)).collect());
        assert_eq!(types(&["oem"]).with_loop_devices().as_deref(), Some("oem"));
        assert_eq!(types(&["oem", "tbz"]).with_loop_devices(), None);
        assert!(types(&["oem", "tbz"]).may_need_loop_devices());
        assert_eq!(types(&["iso"]).with_loop_devices(), None);
        assert!(types(&["iso"]).may_need_loop_devices());
        assert!(!types(&["docker", "tbz"]).may_need_loop_devices());
        assert!(types(&[]).may_need_loop_devices());
        assert_eq!(types(&[]).with_loop_devices(), None);
    }

    /// They were refused nowhere and failed in the container, or got the host's devices for nothing.
    #[test]
    fn a_root_that_is_mounted_makes_the_difference() {
        for (attributes, expected) in [
            (
                "image='kis' filesystem='ext4'/>",
                Some("kis with filesystem=\"ext4\""),
            ),
            ("image='kis' filesystem='squashfs'/>", None),
            ("image='kis'/>", None),
            (
                "image='pxe' filesystem='xfs'/>",
                Some("pxe with filesystem=\"xfs\""),
            ),
            ("image='iso'/>", None),
            ("image='iso' filesystem='erofs'/>", None),
            (
                "image='iso' filesystem='btrfs'/>",
                Some("iso with filesystem=\"btrfs\""),
            ),
            ("image='iso' luks='x'/>", Some("iso with luks")),
            (
                "image='iso'><bootloader name='systemd_boot'/></type>",
                Some("iso with bootloader=\"systemd_boot\""),
            ),
            ("image='iso'><bootloader name='grub2'/></type>", None),
            ("image='oem' filesystem='squashfs'/>", Some("oem")),
        ] {
            let found = one(attributes);
            assert_eq!(
                found.with_loop_devices().as_deref(),
                expected,
                "{attributes}"
            );
            assert_eq!(
                found.may_need_loop_devices(),
                expected.is_some(),
                "{attributes}"
            );
        }
    }

    #[test]
    fn an_asked_for_type_wins() {
        let text =
            "<image><preferences><type image=\"oem\"/><type image=\"tbz\"/></preferences></image>";
        assert_eq!(
            types(text, None).with_loop_devices().as_deref(),
            Some("oem")
        );
        assert!(!types(text, Some("tbz")).may_need_loop_devices());
        // One that the description does not have is left to the box.
        assert!(types(text, Some("iso")).may_need_loop_devices());
        assert_eq!(types("<image/>", None), ImageTypes(Vec::new()));
    }

    #[test]
    fn a_plan_has_their_names() {
        let text = serde_json::to_string(&one("image='kis' filesystem='ext4'/>")).unwrap();
        assert_eq!(text, "[\"kis\"]");
    }
}
