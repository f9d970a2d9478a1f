//! The description of a request, looked at on this host.

use std::path::{Path, PathBuf};

use boxbuild_boxes::store::{BoxInfo, InstalledBox};
use boxbuild_description::{
    BoxView, Description, Finding, Format, Halves, Inspection, Need, Target, Wanted,
};
use boxbuild_engine::podman::Mode;
use boxbuild_host::arch::Arch;
use boxbuild_host::text::shown;

use super::equipment;
use super::error::PlanError;
use crate::request::BuildRequest;

/// A description that no kiwi refuses, as far as that can be seen from here.
#[derive(Debug, Clone, Default)]
pub struct Inspected {
    /// What could be read of it.
    description: Option<Description>,
    /// What the user should know.
    notes: Vec<String>,
}

impl Inspected {
    /// Inspects the description of `request`, whose folder is `folder`.
    pub(super) fn of(request: &BuildRequest, folder: &Path) -> Result<Inspected, PlanError> {
        let typed = &request.build.description;
        let inspection = inspect(request, folder).map_err(|error| PlanError::Description {
            path: typed.clone(),
            problem: error.to_string(),
        })?;
        refuse(inspection.errors())?;
        Ok(Inspected {
            notes: inspection.findings.iter().map(Finding::to_string).collect(),
            description: inspection.description,
        })
    }

    /// Returns what could be read of the description.
    pub(super) fn description(&self) -> Option<&Description> {
        self.description.as_ref()
    }

    /// Checks it for a box. Returns what the user should know.
    pub(super) fn check_for(
        &self,
        request: &BuildRequest,
        installed: &InstalledBox,
    ) -> Result<Vec<String>, PlanError> {
        let mut notes = self.notes.clone();
        let Some(description) = &self.description else {
            return Ok(notes);
        };
        let findings = for_box(description, request, installed);
        refuse(findings.iter().filter(|finding| finding.is_error()))?;
        notes.extend(findings.iter().map(Finding::to_string));
        Ok(notes)
    }
}

/// Inspects the description of a request, whose folder is `folder`.
///
/// # Errors
/// Fails if the folder cannot be read.
pub fn inspect(request: &BuildRequest, folder: &Path) -> std::io::Result<Inspection> {
    let named = request.build.host_paths.iter().map(|named| &named.path);
    let shared: Vec<PathBuf> = named
        .chain(&request.shared_path)
        .filter_map(|path| std::path::absolute(path).ok())
        .collect();
    let view = BoxView::new(folder, &request.build.description, shared);
    let wanted = Wanted {
        kiwi_file: request.kiwi.description_file.clone(),
        target: target(request, None),
        box_reads_all: request.container == Some(Mode::Rootful),
    };
    Inspection::of(&view, &wanted)
}

/// Returns what a box finds in a description besides what [`inspect`] finds.
pub fn for_box(
    description: &Description,
    request: &BuildRequest,
    installed: &InstalledBox,
) -> Vec<Finding> {
    let info = &installed.info;
    let target = target(request, Some(info));
    // The version to be installed first counts.
    let wanted = request.kiwi_version.as_deref();
    let kiwi = wanted.or(info.kiwi.as_deref());
    let mut findings = Vec::new();
    findings.extend(description.check(&target));
    if description.is_for_kiwi() {
        findings.extend(description.check_schema(kiwi));
    }
    findings.extend(foreign_packages(description, &target, info.arch));
    if description.is_for_kiwi() {
        let words = &request.build.rest;
        findings.extend(equipment::findings(
            description,
            words,
            &target,
            installed,
            &request.added_packages(),
        ));
    }
    if description.format() == Format::Yaml && info.inventory.is_none() {
        findings.push(description.note(
            "kiwi reads YAML and JSON only if the box has Python's anymarkup-core, xmltodict and PyYAML",
        ));
    }
    findings
}

/// Returns what a build needs of its box.
pub fn needs(description: &Description, request: &BuildRequest, info: &BoxInfo) -> Vec<Need> {
    let set = equipment::set_attributes(&request.build.rest);
    description.needs(&target(request, Some(info)), &set)
}

/// Returns an error if kiwi would put packages of the box's own architecture into an image that is named
/// after another one: it tells zypper and dnf of `--target-arch`, and no other package manager.
fn foreign_packages(description: &Description, target: &Target, of_box: Arch) -> Option<Finding> {
    let asked = target.arch.as_deref()?;
    let manager = description.package_manager(target)?;
    if asked == of_box.name() || !["apt", "pacman"].contains(&manager.text.as_str()) {
        return None;
    }
    Some(Finding::error(
        &manager.place,
        format!(
            "--target-arch {asked}: kiwi tells only zypper and dnf of it; {} would put packages for \
             {of_box} into an image that is named {asked}: leave the option out",
            manager.text
        ),
    ))
}

/// Returns `halves` with the names of files below the description folder.
pub(super) fn below_folder(mut halves: Halves, request: &BuildRequest) -> Halves {
    let typed = &request.build.description;
    for file in &mut halves.files {
        if let Ok(below) = Path::new(&*file).strip_prefix(typed) {
            *file = below.to_string_lossy().into_owned();
        }
    }
    halves
}

/// Returns what is built of a description: in the box `info`, if it is known.
pub fn target(request: &BuildRequest, info: Option<&BoxInfo>) -> Target {
    let text = |word: &std::ffi::OsString| word.to_string_lossy().into_owned();
    let mut words = request.kiwi.forwarded.iter();
    let asked = words
        .by_ref()
        .find(|word| *word == "--target-arch")
        .and_then(|_| words.next());
    Target {
        profiles: request.kiwi.profiles.iter().map(text).collect(),
        image_type: request.kiwi.image_type.as_ref().map(text),
        arch: asked
            .map(text)
            .or_else(|| info.map(|info| info.arch.name().to_owned())),
    }
}

/// Fails with all of `errors`, if there are any.
fn refuse<'a>(errors: impl Iterator<Item = &'a Finding>) -> Result<(), PlanError> {
    let errors: Vec<String> = errors.map(Finding::to_string).collect();
    if errors.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = errors.iter().map(|error| shown(error)).collect();
    Err(PlanError::Content(lines.join("\n  ")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plan::tests::small_box;

    /// apt has no architecture from kiwi: the image was named i686, and full of amd64.
    #[test]
    fn packages_of_another_architecture_than_the_image_is_named_after_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut installed = small_box("/nowhere/small".into());
        let mut found = |of_box: Arch, asked: Option<&str>, manager: &str| {
            let text = format!(
                "<image><preferences>\n<packagemanager>{manager}</packagemanager><type image='tbz'/>\
                 </preferences></image>"
            );
            fs::write(dir.path().join("a.kiwi"), text).unwrap();
            let mut request =
                BuildRequest::new("small", dir.path().to_owned(), "/nowhere/target".into());
            if let Some(asked) = asked {
                request.kiwi.forwarded = vec!["--target-arch".into(), asked.into()];
            }
            installed.info.arch = of_box;
            let description = inspect(&request, dir.path()).unwrap().description.unwrap();
            let findings = for_box(&description, &request, &installed);
            let mut errors = findings.iter().filter(|finding| finding.is_error());
            errors.next().map(Finding::to_string)
        };
        for (of_box, asked) in [(Arch::X86_64, "i686"), (Arch::Aarch64, "armv7l")] {
            for manager in ["apt", "pacman"] {
                let error = found(of_box, Some(asked), manager).unwrap();
                let named = [asked, manager, of_box.name(), ":2: "];
                assert!(named.iter().all(|word| error.contains(word)), "{error}");
            }
            for manager in ["zypper", "dnf4", "dnf5"] {
                assert_eq!(found(of_box, Some(asked), manager), None);
            }
        }
        for arch in Arch::ALL {
            assert_eq!(found(arch, Some(arch.name()), "apt"), None);
            assert_eq!(found(arch, None, "apt"), None);
        }
    }
}
