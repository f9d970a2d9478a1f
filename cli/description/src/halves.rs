//! Which half of a build reads what of a description: `prepare` makes the root tree, `create` makes the image
//! of it (kiwi 11.1.6, `tasks/system_prepare.py` and `tasks/system_create.py`).
//!
//! What is not known to be read by `create` alone counts as read by `prepare`.

use std::collections::HashSet;
use std::path::PathBuf;

use boxbuild_host::digest;
use serde::{Deserialize, Serialize};

use crate::element::Element;
use crate::inspect::Description;
use crate::selection::{self, Target};

/// A half of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Half {
    /// kiwi's `prepare`.
    Prepare,
    /// kiwi's `create`, and nothing before it.
    Create,
}

/// A part of a description, as one half of a build reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Section {
    /// Its name, for people; several may have the same.
    pub label: String,
    /// The half.
    pub half: Half,
    /// Hash of what is in it, as kiwi sees it.
    pub sha256: String,
}

/// A description taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Halves {
    /// What a build of the selected profiles and type reads.
    pub sections: Vec<Section>,
    /// Files that the type names and only `create` reads, below the description folder.
    pub scripts: Vec<PathBuf>,
    /// The files that all this stands in, as the user knows them.
    pub files: Vec<String>,
}

/// Attributes of `<type>` that `prepare` reads (kiwi, `system/prepare.py` and `system/setup.py`); `image` also
/// selects sections of packages.
const TYPE_OF_PREPARE: [&str; 5] = [
    "delta_root",
    "derived_from",
    "image",
    "provide_system_files",
    "selinux_policy",
];

/// Attributes of `<type>` that name scripts (kiwi, `system/setup.py`, `_import_custom_scripts`).
const SCRIPTS: [&str; 2] = ["editbootconfig", "editbootinstall"];

/// Elements of `<preferences>` that only `create` reads.
const PREFERENCES_OF_CREATE: [&str; 2] = ["bootloader-theme", "version"];

/// Attributes of `<image>` that only `create` reads.
const IMAGE_OF_CREATE: [&str; 2] = ["displayname", "name"];

/// Sections of packages that every build reads, besides those of its type (`xml_state.py`).
const PACKAGES: [&str; 4] = ["bootstrap", "delete", "image", "uninstall"];

impl Description {
    /// Takes the description apart. `None` if a part of it cannot be seen from this host.
    pub fn halves(&self, target: &Target) -> Option<Halves> {
        if !self.is_whole() {
            return None;
        }
        let selected = self.select(target).ok();
        let arch = target.arch.as_deref();
        let profiles: Option<HashSet<&str>> = selected
            .as_ref()
            .map(|selected| selected.profiles.iter().map(String::as_str).collect());
        let applies = |element: &Element| {
            let by_profile = |profiles| selection::applies(element, profiles, arch);
            profiles.as_ref().is_none_or(by_profile)
        };
        let kind = selected.as_ref().map(|selected| &*selected.image_type);
        let mut halves = Halves {
            files: std::iter::once(self.file().to_owned())
                .chain(self.includes().iter().map(|include| include.file.clone()))
                .collect(),
            ..Halves::default()
        };
        halves.image(self.root());
        if let Some(selected) = &selected {
            let names = selected.profiles.join("\n");
            halves.add("profiles", Half::Prepare, names.as_bytes());
        }
        for element in self.root().children.iter().filter(|one| applies(one)) {
            match element.name.as_str() {
                "description" | "profiles" => {}
                "preferences" => halves.preferences(element, kind),
                "packages" => halves.packages(element, kind),
                name => halves.element(name, Half::Prepare, element),
            }
        }
        for element in self.types(target) {
            halves.image_type(element);
        }
        Some(halves)
    }
}

impl Halves {
    fn add(&mut self, label: &str, half: Half, bytes: &[u8]) {
        // Memory can be read.
        let hash = digest::sha256(&mut &*bytes).map(|(_, hash)| hash);
        self.sections.push(Section {
            label: label.to_owned(),
            half,
            sha256: hash.unwrap_or_default(),
        });
    }

    fn element(&mut self, label: &str, half: Half, element: &Element) {
        let mut bytes = Vec::new();
        write(element, &mut bytes);
        self.add(label, half, &bytes);
    }

    fn attributes(&mut self, prefix: &str, of_create: impl Fn(&str) -> bool, element: &Element) {
        for (name, value) in &element.attributes {
            let half = if of_create(name) {
                Half::Create
            } else {
                Half::Prepare
            };
            self.add(&format!("{prefix}: {name}"), half, value.as_bytes());
        }
    }

    fn image(&mut self, root: &Element) {
        self.attributes("image", |name| IMAGE_OF_CREATE.contains(&name), root);
    }

    fn preferences(&mut self, section: &Element, kind: Option<&str>) {
        for element in &section.children {
            let name = element.name.as_str();
            // The selected type is looked at by itself, others are not read.
            if name == "type" && kind.is_some() {
                continue;
            }
            let half = if PREFERENCES_OF_CREATE.contains(&name) {
                Half::Create
            } else {
                Half::Prepare
            };
            self.element(name, half, element);
        }
    }

    fn packages(&mut self, section: &Element, kind: Option<&str>) {
        let of = section.attribute("type").unwrap_or_default();
        if kind.is_none() || PACKAGES.contains(&of) || kind == Some(of) {
            self.element(&format!("packages of {of}"), Half::Prepare, section);
        }
    }

    fn image_type(&mut self, element: &Element) {
        let of_create = |name: &str| !TYPE_OF_PREPARE.contains(&name);
        self.attributes("type", of_create, element);
        for child in &element.children {
            self.element(&format!("type: {}", child.name), Half::Create, child);
        }
        let scripts = SCRIPTS.iter().filter_map(|name| element.attribute(name));
        self.scripts.extend(scripts.map(PathBuf::from));
    }
}

/// Writes an element: names, values and texts with their lengths, so that none runs into the next.
fn write(element: &Element, out: &mut Vec<u8>) {
    let mut text = |text: &str| {
        out.extend_from_slice(&(text.len() as u64).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    text(&element.name);
    text(&element.text);
    let mut attributes: Vec<_> = element.attributes.iter().collect();
    attributes.sort();
    for (name, value) in attributes {
        text(name);
        text(value);
    }
    out.extend_from_slice(&(element.children.len() as u64).to_le_bytes());
    for child in &element.children {
        write(child, out);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::inspect::{Inspection, Wanted};
    use crate::view::BoxView;

    const DESCRIPTION: &str = r#"<image schemaversion="8.5" name="x">
        <description type="system"><author>me</author></description>
        <profiles><profile name="A" description="a"/><profile name="B" description="b"/></profiles>
        <preferences><version>1.0.0</version><packagemanager>apt</packagemanager></preferences>
        <preferences profiles="A">
            <type image="oem" filesystem="ext4" editbootconfig="boot.sh"><size unit="M">900</size></type>
            <type image="tbz"/>
        </preferences>
        <users><user name="root" password="x"/></users>
        <repository type="apt-deb"><source path="https://x/debian"/></repository>
        <packages type="bootstrap"><package name="apt"/></packages>
        <packages type="image" profiles="B"><package name="b"/></packages>
        <packages type="oem"><package name="grub2"/></packages>
        <packages type="tbz"><package name="tar"/></packages>
    </image>"#;

    fn halves(text: &str, kind: &str) -> Halves {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.xml"), text).unwrap();
        let view = BoxView::new(dir.path(), Path::new("d"), Vec::new());
        let found = Inspection::of(&view, &Wanted::default()).unwrap();
        let target = Target {
            profiles: vec![String::from("A")],
            image_type: Some(kind.to_owned()),
            arch: None,
        };
        found.description.unwrap().halves(&target).unwrap()
    }

    /// Labels of the sections that a change of the text changes, with the halves that read them.
    fn changed(from: &str, to: &str) -> BTreeSet<(String, bool)> {
        assert!(DESCRIPTION.contains(from), "{from}");
        let before = halves(DESCRIPTION, "oem").sections;
        let after = halves(&DESCRIPTION.replace(from, to), "oem").sections;
        let only = |some: &[Section], others: &[Section]| {
            let some: Vec<_> = some.iter().filter(|one| !others.contains(one)).collect();
            some.into_iter()
                .map(|one| (one.label.clone(), one.half == Half::Create))
                .collect::<BTreeSet<_>>()
        };
        &only(&before, &after) | &only(&after, &before)
    }

    #[test]
    fn what_only_create_reads_is_told_from_the_rest() {
        for (from, to, label, of_create) in [
            ("ext4", "xfs", "type: filesystem", true),
            (">900<", ">1900<", "type: size", true),
            ("ext4\"", "ext4\" firmware=\"uefi\"", "type: firmware", true),
            ("1.0.0", "1.0.1", "version", true),
            ("name=\"x\"", "name=\"y\"", "image: name", true),
            (">apt<", ">dnf<", "packagemanager", false),
            (
                "ext4\"",
                "ext4\" derived_from=\"x\"",
                "type: derived_from",
                false,
            ),
            ("password=\"x\"", "password=\"y\"", "users", false),
            ("x/debian", "y/debian", "repository", false),
            ("\"apt\"", "\"apt2\"", "packages of bootstrap", false),
            ("grub2", "grub", "packages of oem", false),
        ] {
            let expected = BTreeSet::from([(label.to_owned(), of_create)]);
            assert_eq!(changed(from, to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn what_this_build_does_not_read_may_change() {
        for (from, to) in [
            (">me<", ">you<"),
            ("\"b\"/></packages>", "\"c\"/></packages>"),
            ("\"tar\"", "\"cpio\""),
            (
                "<type image=\"tbz\"/>",
                "<type image=\"tbz\" compressed=\"false\"/>",
            ),
            ("<users>", "<!-- a word --><users>"),
        ] {
            assert_eq!(changed(from, to), BTreeSet::new(), "{from} -> {to}");
        }
    }

    #[test]
    fn scripts_of_the_type_are_named() {
        assert_eq!(halves(DESCRIPTION, "oem").scripts, [Path::new("boot.sh")]);
        assert!(halves(DESCRIPTION, "tbz").scripts.is_empty());
        assert_eq!(halves(DESCRIPTION, "oem").files, ["d/config.xml"]);
    }
}
