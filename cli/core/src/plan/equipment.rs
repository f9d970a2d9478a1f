//! What a description needs of its box, and what the box has: KIWI would notice late.

use std::collections::BTreeSet;
use std::ffi::OsString;

use boxbuild_boxes::store::{BoxInfo, InstalledBox, Inventory};
use boxbuild_description::{Description, Finding, Need, NeedKind, Target};
use boxbuild_host::arch::Arch;

/// Programs that boxes which `box create` made before they had a record lack.
const OLD_BOXES_LACK: &[&str] = &[
    "buildah",
    "implantisomd5",
    "mdadm",
    "mkfs.erofs",
    "strings",
    "tagmedia",
];

/// Origins of boxes that `box create` makes.
const CREATED: &[&str] = &["debian:", "ubuntu:"];

/// Returns what a build of `target` needs and the box lacks: errors if the box says so and every such
/// build comes to it. `added` are packages that are installed in the box first. Of a box without a record, only
/// what is known of its kind is noted.
pub(super) fn findings(
    description: &Description,
    words: &[OsString],
    target: &Target,
    installed: &InstalledBox,
    added: &[String],
) -> Vec<Finding> {
    let info = &installed.info;
    let mut needs = description.needs(target, &set_attributes(words));
    needs.retain(|need| {
        !need
            .package()
            .is_some_and(|package| added.iter().any(|one| one == package))
    });
    let missing: Vec<&Need> = match &info.inventory {
        Some(inventory) => needs.iter().filter(|need| lacks(inventory, need)).collect(),
        None if is_created(info) => needs.iter().filter(|need| lacked_before(need)).collect(),
        None => return Vec::new(),
    };
    let advice = advice(info, &missing);
    let mut told = BTreeSet::new();
    missing
        .into_iter()
        .filter(|need| told.insert(need.any_of))
        .map(|need| {
            let text = sentence(info, need, &advice);
            // Builds with --no-snapshot may have installed it, and other packages may have it.
            let is_sure = info.inventory.is_some()
                && installed.changed.is_none()
                && added.is_empty()
                && need.certain;
            if is_sure {
                Finding::error(&need.place, text)
            } else {
                Finding::note(&need.place, text)
            }
        })
        .collect()
}

fn lacks(inventory: &Inventory, need: &Need) -> bool {
    let of = match need.kind {
        NeedKind::Program => &inventory.programs,
        NeedKind::Module => &inventory.modules,
    };
    Inventory::lacks(of, need.any_of)
}

fn lacked_before(need: &Need) -> bool {
    need.kind == NeedKind::Program && need.any_of.iter().all(|name| OLD_BOXES_LACK.contains(name))
}

fn is_created(info: &BoxInfo) -> bool {
    CREATED.iter().any(|origin| info.origin.starts_with(origin))
}

/// Says what is missing for what.
fn sentence(info: &BoxInfo, need: &Need, advice: &str) -> String {
    let what = need.any_of.join(" or ");
    let (verb, what) = match need.kind {
        NeedKind::Program => ("calls", what),
        NeedKind::Module => ("needs", format!("Python's {what}")),
    };
    let name = &info.name;
    let lacks = match (&info.inventory, need.certain) {
        (None, _) => {
            format!("the box {name} was made by an earlier boxbuild, whose boxes have none")
        }
        (Some(_), true) => format!("the box {name} has none"),
        (Some(_), false) => format!("if it finds GRUB's signed images; the box {name} has none"),
    };
    let remedy = match need.package() {
        Some(_) => advice.to_owned(),
        None if need.kind == NeedKind::Program => {
            let program = need.any_of.first().copied().unwrap_or_default();
            format!(
                "no package of Debian has it: put {program} into boxroot/usr/bin of the description, or \
                 build in another box"
            )
        }
        None => String::from("build in another box"),
    };
    format!(
        "{}: kiwi {verb} {what}, and {lacks}: {remedy}",
        need.what_for
    )
}

/// Says how the box gets all that is missing.
fn advice(info: &BoxInfo, missing: &[&Need]) -> String {
    let packages: BTreeSet<&str> = missing.iter().filter_map(|need| need.package()).collect();
    let words = |packages: &BTreeSet<&str>| packages.iter().copied().collect::<Vec<_>>().join(" ");
    if !is_created(info) {
        return format!(
            "make it again with the packages that have it (Debian's are {})",
            words(&packages)
        );
    }
    let for_one: Vec<_> = packages
        .iter()
        .map(|name| format!("--box-package {name}"))
        .collect();
    let mut command = String::from("boxbuild box create ");
    let suffix = format!(".{}", info.arch);
    match info.name.strip_suffix(&suffix) {
        Some(name) if info.arch != Arch::host() => {
            command += &format!("{name} --arch {}", info.arch);
        }
        _ => command += &info.name,
    }
    command += &format!(" --from {} --force", info.origin);
    // Boxes have all that is in the list of `box create` once they are made again.
    if let Some(inventory) = &info.inventory {
        let mut with: BTreeSet<&str> = inventory.with.iter().map(String::as_str).collect();
        with.extend(packages);
        for package in with {
            command += &format!(" --with {package}");
        }
    }
    format!(
        "add it for one build ({}), or make the box again: {command}",
        for_one.join(" ")
    )
}

/// Returns the attributes that `--set-type-attr` sets.
pub(super) fn set_attributes(words: &[OsString]) -> Vec<(String, String)> {
    let values = words
        .windows(2)
        .filter(|pair| pair[0] == "--set-type-attr")
        .filter_map(|pair| pair[1].to_str()?.split_once('='));
    values
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A repository in the box that is offered to the image.
pub(super) struct Offer {
    /// Words for kiwi.
    pub(super) words: [OsString; 2],
    /// What the user should know.
    pub(super) note: String,
}

/// Returns the repository of the box with KIWI's dracut modules, if the image has packages of these
/// names. Its own lists give them a low priority: a repository of the description that has them comes
/// first.
pub(super) fn offer(
    description: Option<&Description>,
    words: &[OsString],
    target: &Target,
    info: &BoxInfo,
) -> Option<Offer> {
    let repository = info.inventory.as_ref()?.repository.as_ref()?;
    let description = description?;
    if description.package_manager(target)?.text != "apt" {
        return None;
    }
    let added = words
        .windows(2)
        .filter(|pair| pair[0] == "--add-package" || pair[0] == "--add-bootstrap-package")
        .filter_map(|pair| pair[1].to_str());
    let mut names: BTreeSet<&str> = description
        .packages(target)
        .into_iter()
        .chain(added)
        .collect();
    names.retain(|name| repository.packages.iter().any(|known| known == name));
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    // SOURCE,TYPE,ALIAS,PRIORITY,IMAGEINCLUDE,PACKAGE_GPGCHECK,KEYS,COMPONENTS,DISTRIBUTION,REPO_GPGCHECK
    let value = format!(
        "file://{},apt-deb,boxbuild-packages,,false,false,,,,false",
        repository.path
    );
    Some(Offer {
        words: ["--add-repo".into(), value.into()],
        note: format!(
            "{}: the box offers KIWI's own dracut modules, for what no other repository has",
            names.join(", ")
        ),
    })
}

#[cfg(test)]
mod tests;
