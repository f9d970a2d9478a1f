//! Image types, as far as a container must know them: which ones need loop devices.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use boxbuild_host::input;

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
    /// The type that was asked for, or those in the description. A description that cannot be
    /// read here (another format, an include) is no error: kiwi will say.
    pub fn of(asked: Option<&OsStr>, description: &Path, file: Option<&Path>) -> ImageTypes {
        if let Some(asked) = asked {
            return ImageTypes(vec![asked.to_string_lossy().into_owned()]);
        }
        let text = match file {
            Some(file) => input::read_text(&description.join(file)).unwrap_or_default(),
            None => find(description).unwrap_or_default(),
        };
        ImageTypes(in_xml(&text))
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

/// The description that kiwi would take: config.xml, or the only *.kiwi.
fn find(description: &Path) -> Option<String> {
    if let Ok(text) = input::read_text(&description.join("config.xml")) {
        return Some(text);
    }
    let entry = fs::read_dir(description)
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "kiwi")
        })?;
    input::read_text(&entry.path()).ok()
}

/// Values of `image` in the `type` elements of an XML description, comments left out.
fn in_xml(text: &str) -> Vec<String> {
    let mut rest = text;
    let mut types = Vec::new();
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            let Some(end) = comment.find("-->") else {
                break;
            };
            rest = &comment[end + 3..];
            continue;
        }
        let Some(end) = rest.find('>') else { break };
        let element = &rest[..end];
        rest = &rest[end..];
        let Some(attributes) = element.strip_prefix("<type") else {
            continue;
        };
        if !attributes.starts_with(|c: char| c.is_ascii_whitespace()) {
            continue;
        }
        let value = attributes
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix("image="))
            .map(|value| value.trim_end_matches('/').trim_matches(['"', '\'']));
        types.extend(value.map(str::to_owned));
    }
    types
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_types_of_a_description() {
        let text = "<image><!-- <type image=\"oem\"/> --><types image='x'/>\n\
                    <type image=\"tbz\"/><type\n  primary=\"true\" image='oem' a=\"b\">";
        assert_eq!(in_xml(text), ["tbz", "oem"]);
        assert_eq!(in_xml("<type image="), Vec::<String>::new());
        assert_eq!(in_xml("<!-- <type image='oem'>"), Vec::<String>::new());
    }

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

    /// Fault 29: `config.xml -> /dev/zero` took all memory, and a pipe all time.
    #[test]
    fn a_description_that_never_ends_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.xml");
        let path = |name: &str| std::path::PathBuf::from(name);
        std::os::unix::fs::symlink("/dev/zero", &config).unwrap();
        nix::unistd::mkfifo(&dir.path().join("a.kiwi"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for file in [None, Some("config.xml"), Some("a.kiwi")] {
            let found = ImageTypes::of(None, dir.path(), file.map(path).as_deref());
            assert_eq!(found, ImageTypes(Vec::new()));
        }
        fs::remove_file(&config).unwrap();
        fs::write(dir.path().join("real"), "<type image=\"oem\"/>").unwrap();
        std::os::unix::fs::symlink("real", &config).unwrap();
        let found = ImageTypes::of(None, dir.path(), None);
        assert_eq!(found.with_loop_devices(), Some("oem"));
    }

    #[test]
    fn an_asked_for_type_wins() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.kiwi"), "<type image=\"oem\"/>").unwrap();
        let found = ImageTypes::of(None, dir.path(), None);
        assert_eq!(found.with_loop_devices(), Some("oem"));
        let asked = ImageTypes::of(Some(OsStr::new("tbz")), dir.path(), None);
        assert!(!asked.may_need_loop_devices());
    }
}
