//! What kiwi calls for an image, by its type and attributes (kiwi 11.1.6, `kiwi/builder`,
//! `kiwi/storage`, `kiwi/package_manager`). Only what each build of such an image comes to is here.

mod rules;

use crate::build_type::BuildType;
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

/// Returns what a type needs.
fn of_type(kind: &BuildType<'_>) -> Vec<Need> {
    let need = |any_of, what_for, certain| Need {
        kind: NeedKind::Program,
        any_of,
        what_for,
        place: kind.place().clone(),
        certain,
    };
    let file_systems = kind.file_systems().into_iter().filter_map(|made| {
        let mut makers = rules::MAKERS.iter();
        let (_, any_of) = makers.find(|(name, _)| *name == made.name)?;
        Some(need(*any_of, made.why, true))
    });
    let mut needs: Vec<Need> = file_systems.collect();
    for (rules, certain) in [(rules::RULES, true), (rules::LIKELY, false)] {
        for (conditions, any_of) in rules {
            let Some(last) = conditions.last() else {
                continue;
            };
            if conditions.iter().all(|when| rules::holds(kind, when)) {
                needs.push(need(*any_of, rules::said(kind, last), certain));
            }
        }
    }
    needs
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
        let Some(kind) = self.build_type(target, set) else {
            return needs;
        };
        needs.extend(of_type(&kind));
        needs.extend(self.manager_needs(target, &kind));
        let brought = self.brought();
        let brings = |need: &Need| need.any_of.iter().any(|name| brought.contains(name));
        needs.retain(|need| need.kind == NeedKind::Module || !brings(need));
        needs
    }

    /// What the package manager needs: none is called from outside of a root tree that begins as
    /// another image.
    fn manager_needs(&self, target: &Target, kind: &BuildType<'_>) -> Vec<Need> {
        if kind.get("derived_from").is_some() {
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
