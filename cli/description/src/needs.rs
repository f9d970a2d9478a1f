//! What kiwi calls for an image, by its type and attributes (kiwi 11.1.6, `kiwi/builder`,
//! `kiwi/storage`, `kiwi/package_manager`). Only what each build of such an image comes to is here.

use crate::element::{Element, Place};
use crate::inspect::{Description, Format};
use crate::programs::{MODULES, PROGRAMS};
use crate::selection::{self, Target};

/// What a box must have for a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// What it is.
    pub kind: NeedKind,
    /// Names of [`PROGRAMS`] or [`MODULES`], of which one is enough.
    pub any_of: &'static [&'static str],
    /// What needs it, as the description says it, e.g. `filesystem="erofs"`.
    pub what_for: String,
    /// Where that stands.
    pub place: Place,
    /// Every such build needs it; otherwise it depends on the root tree.
    pub certain: bool,
}

/// Of which kind a [`Need`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeedKind {
    /// A program.
    Program,
    /// A module of Python.
    Module,
}

/// A condition on a type.
enum When {
    /// The attribute has one of these values.
    Is(&'static str, &'static [&'static str]),
    /// The attribute has a value, and none of these.
    IsNot(&'static str, &'static [&'static str]),
    /// The attribute is there, or has none of these values.
    Not(&'static str, &'static [&'static str]),
    /// The attribute is there.
    Has(&'static str),
    /// The attribute begins with one of these.
    Begins(&'static str, &'static [&'static str]),
    /// The disk has volumes of LVM (`get_volume_management` in `xml_state.py`).
    Volumes,
}

use When::{Begins, Has, Is, IsNot, Not, Volumes};

const TRUE: &[&str] = &["true", "1"];
const EFI: &[&str] = &["efi", "uefi"];
/// Types with a file system in an image file.
const WITH_ROOT: &[&str] = &["oem", "iso", "kis", "pxe"];
const OCI_TOOL: &[&str] = &["umoci", "buildah"];

/// Conditions, all of which must hold, and the programs of which one is called then. The last condition
/// is what messages name.
type Rule = (&'static [When], &'static [&'static str]);

const RULES: &[Rule] = &[
    (&[Is("image", &["squashfs"])], &["mksquashfs"]),
    (&[Is("image", &["erofs"])], &["mkfs.erofs"]),
    (&[Is("image", &["ext2"])], &["mkfs.ext2"]),
    (&[Is("image", &["ext3"])], &["mkfs.ext3"]),
    (&[Is("image", &["ext4"])], &["mkfs.ext4"]),
    (&[Is("image", &["btrfs"])], &["mkfs.btrfs"]),
    (&[Is("image", &["xfs"])], &["mkfs.xfs"]),
    (&[Is("image", &["fat16", "fat32"])], &["mkdosfs"]),
    (
        &[Is("image", WITH_ROOT), Is("filesystem", &["squashfs"])],
        &["mksquashfs"],
    ),
    (
        &[Is("image", WITH_ROOT), Is("filesystem", &["erofs"])],
        &["mkfs.erofs"],
    ),
    (
        &[Is("image", WITH_ROOT), Is("filesystem", &["ext2"])],
        &["mkfs.ext2"],
    ),
    (
        &[Is("image", WITH_ROOT), Is("filesystem", &["ext3"])],
        &["mkfs.ext3"],
    ),
    (
        &[Is("image", WITH_ROOT), Is("filesystem", &["ext4"])],
        &["mkfs.ext4"],
    ),
    (
        &[Is("image", WITH_ROOT), Is("filesystem", &["btrfs"])],
        &["mkfs.btrfs"],
    ),
    (
        &[Is("image", WITH_ROOT), Is("filesystem", &["xfs"])],
        &["mkfs.xfs"],
    ),
    (
        &[
            Is("image", &["oem"]),
            Is("overlayroot", TRUE),
            Is("overlayroot_readonly_filesystem", &["erofs"]),
        ],
        &["mkfs.erofs"],
    ),
    (
        &[
            Is("image", &["oem"]),
            Not("overlayroot_readonly_filesystem", &["erofs"]),
            Is("overlayroot", TRUE),
        ],
        &["mksquashfs"],
    ),
    (
        &[Is("image", &["oem", "iso"]), Is("firmware", EFI)],
        &["mkdosfs"],
    ),
    (&[Is("firmware", EFI), Is("image", &["iso"])], &["mcopy"]),
    (
        &[
            Is("image", &["oem"]),
            Not("efiparttable", &["msdos"]),
            Is("firmware", EFI),
        ],
        &["sgdisk"],
    ),
    (
        &[Not("filesystem", &["erofs"]), Is("image", &["iso"])],
        &["mksquashfs"],
    ),
    (&[Is("image", &["iso"])], &["xorriso"]),
    (
        &[Is("image", &["oem"]), Is("installiso", TRUE)],
        &["xorriso"],
    ),
    (
        &[Is("image", &["oem"]), Is("installiso", TRUE)],
        &["mksquashfs"],
    ),
    (
        &[Is("image", &["oem"]), Is("installstick", TRUE)],
        &["xorriso"],
    ),
    (
        &[Is("image", &["oem"]), Is("installstick", TRUE)],
        &["mksquashfs"],
    ),
    (&[Is("image", &["oem"]), Is("installpxe", TRUE)], &["xz"]),
    (
        &[Is("image", &["iso"]), Is("mediacheck", TRUE)],
        &["tagmedia", "implantisomd5"],
    ),
    (&[Is("image", &["oem"]), Has("mdraid")], &["mdadm"]),
    (
        &[Is("image", &["oem", "iso"]), Has("luks")],
        &["cryptsetup"],
    ),
    (
        &[Is("image", &["oem"]), Is("standalone_integrity", TRUE)],
        &["integritysetup"],
    ),
    (
        &[Is("image", &["oem"]), Is("embed_integrity_metadata", TRUE)],
        &["integritysetup"],
    ),
    (
        &[Is("image", &["oem"]), Has("verity_blocks")],
        &["veritysetup"],
    ),
    (&[Is("image", &["oem"]), Volumes], &["vgcreate"]),
    (
        &[Is("image", &["oem"]), IsNot("format", &["gce", "raw"])],
        &["qemu-img"],
    ),
    (
        &[Is("image", &["oem"]), Is("format", &["ova"])],
        &["ova-compose"],
    ),
    (
        &[
            Is("image", &["oem"]),
            Begins("format", &["oci:", "docker:"]),
        ],
        OCI_TOOL,
    ),
    (
        &[
            Is("image", &["oem"]),
            Begins("format", &["oci:", "docker:"]),
        ],
        &["skopeo"],
    ),
    (&[Is("image", &["oci", "docker"])], OCI_TOOL),
    (&[Is("image", &["oci", "docker"])], &["skopeo"]),
    (&[Is("image", &["appx"])], &["appx"]),
    (&[Is("image", &["enclave"])], &["eif_build"]),
    (
        &[Is(
            "image",
            &[
                "oem", "oci", "docker", "ext2", "ext3", "ext4", "btrfs", "xfs",
            ],
        )],
        &["rsync"],
    ),
];

/// The same, of what is called only if the root tree has certain files: GRUB's signed images here.
const LIKELY: &[Rule] = &[(
    &[Is("image", &["oem", "iso"]), Is("firmware", &["uefi"])],
    &["strings"],
)];

/// Names of package managers, and what kiwi calls for them to make a new root tree.
const MANAGERS: &[(&str, &[&[&str]])] = &[
    ("apt", &[&["apt-get"], &["dpkg-deb"]]),
    ("dnf", &[&["dnf5", "dnf4", "dnf-3"], &["rpm"]]),
    ("dnf4", &[&["dnf4", "dnf-3"], &["rpm"]]),
    ("dnf5", &[&["dnf5"], &["rpm"]]),
    ("microdnf", &[&["microdnf"], &["rpm"]]),
    ("zypper", &[&["zypper"], &["rpm"]]),
    ("pacman", &[&["pacman"]]),
    ("apk", &[&["apk"]]),
];

/// Attributes of a type as the command line may change them (`--set-type-attr`).
struct Attributes<'a> {
    element: &'a Element,
    set: &'a [(String, String)],
}

impl<'a> Attributes<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        let mut set = self.set.iter().rev();
        set.find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .or_else(|| self.element.attribute(name))
            .filter(|value| !value.is_empty() || name == "luks")
    }

    fn hold(&self, when: &When) -> bool {
        let is =
            |name, values: &[&str]| self.get(name).is_some_and(|value| values.contains(&value));
        match when {
            Is(name, values) => is(name, values),
            IsNot(name, values) => self.get(name).is_some() && !is(name, values),
            Not(name, values) => !is(name, values),
            Has(name) => self.get(name).is_some(),
            Begins(name, starts) => self
                .get(name)
                .is_some_and(|value| starts.iter().any(|start| value.starts_with(start))),
            Volumes => self.element.all("systemdisk").next().is_some_and(|disk| {
                disk.is_set("preferlvm") || self.get("filesystem") != Some("btrfs")
            }),
        }
    }

    /// A condition, as the description says it.
    fn said(&self, when: &When) -> String {
        match when {
            Is(name, _) | IsNot(name, _) | Not(name, _) | Begins(name, _) => {
                format!("{name}=\"{}\"", self.get(name).unwrap_or_default())
            }
            // The value of `luks` is a secret.
            Has(name) => (*name).to_owned(),
            Volumes => String::from("<systemdisk>"),
        }
    }
}

impl Description {
    /// Returns what a box must have for the image that `target` selects, with the attributes `set` by
    /// the command line: nothing about the image if only the box can tell which one is built.
    pub fn needs(&self, target: &Target, set: &[(String, String)]) -> Vec<Need> {
        let mut needs = Vec::new();
        let root = self.root();
        if self.format() != Format::Xml {
            let modules: &[&'static [&'static str]] =
                &[&["anymarkup_core", "anymarkup"], &["xmltodict"], &["yaml"]];
            needs.extend(modules.iter().map(|any_of| Need {
                kind: NeedKind::Module,
                any_of,
                what_for: String::from("a description that is not XML"),
                place: root.place.clone(),
                certain: true,
            }));
        }
        let types = self.types(target);
        let [element] = types.as_slice() else {
            return needs;
        };
        let attributes = Attributes { element, set };
        for (rules, certain) in [(RULES, true), (LIKELY, false)] {
            for (conditions, any_of) in rules {
                let Some(last) = conditions.last() else {
                    continue;
                };
                if conditions.iter().all(|when| attributes.hold(when)) {
                    needs.push(Need {
                        kind: NeedKind::Program,
                        any_of,
                        what_for: attributes.said(last),
                        place: element.place.clone(),
                        certain,
                    });
                }
            }
        }
        needs.extend(self.manager_needs(target, &attributes));
        let brought = self.brought();
        let brings = |need: &Need| need.any_of.iter().any(|name| brought.contains(name));
        needs.retain(|need| need.kind == NeedKind::Module || !brings(need));
        needs
    }

    /// What the package manager needs: none is called from outside of a root tree that begins as
    /// another image.
    fn manager_needs(&self, target: &Target, attributes: &Attributes<'_>) -> Vec<Need> {
        if attributes.get("derived_from").is_some() {
            return Vec::new();
        }
        let Some(manager) = self.package_manager(target) else {
            return Vec::new();
        };
        let mut known = MANAGERS.iter();
        let called = known.find(|(name, _)| *name == manager.text);
        let called = called.map_or(&[][..], |(_, called)| called);
        called
            .iter()
            .map(|any_of| Need {
                kind: NeedKind::Program,
                any_of,
                what_for: format!("<packagemanager>{}", manager.text),
                place: manager.place.clone(),
                certain: true,
            })
            .collect()
    }

    /// Returns the element with the package manager that `target` selects.
    pub fn package_manager(&self, target: &Target) -> Option<&Element> {
        self.sections("preferences", target)
            .into_iter()
            .find_map(|section| {
                let mut elements = section.all("packagemanager");
                elements.find(|element| !element.text.is_empty())
            })
    }

    /// Returns the packages that `target` selects for the root tree, whether for its beginning or later.
    pub fn packages(&self, target: &Target) -> Vec<&str> {
        let image_type = self.select(target).ok().map(|selected| selected.image_type);
        let kinds = ["bootstrap", "image"];
        let of_build = |section: &&Element| {
            let kind = section.attribute("type").unwrap_or_default();
            kinds.contains(&kind) || image_type.as_deref() == Some(kind)
        };
        let arch = target.arch.as_deref();
        self.sections("packages", target)
            .into_iter()
            .filter(of_build)
            .flat_map(|section| section.all("package"))
            .filter(|package| package.is_for(arch))
            .filter_map(|package| package.attribute("name"))
            .collect()
    }

    /// Returns the sections of a name that `target` selects: none if it selects nothing.
    fn sections<'a>(&'a self, name: &'a str, target: &Target) -> Vec<&'a Element> {
        let Ok(selected) = self.select(target) else {
            return Vec::new();
        };
        let profiles = selected.profiles.iter().map(String::as_str).collect();
        let arch = target.arch.as_deref();
        self.root()
            .all(name)
            .filter(|section| selection::applies(section, &profiles, arch))
            .collect()
    }
}

impl Need {
    /// Returns Debian's package with it, if there is one.
    pub fn package(&self) -> Option<&'static str> {
        let table = match self.kind {
            NeedKind::Program => PROGRAMS,
            NeedKind::Module => MODULES,
        };
        let mut found = self.any_of.iter().filter_map(|name| {
            let entry = table.iter().find(|(known, _)| known == name)?;
            entry.1
        });
        found.next()
    }
}

#[cfg(test)]
mod tests;
