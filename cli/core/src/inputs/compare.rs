//! What has changed between two looks at a description folder.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use boxbuild_description::{Half, Section};
use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::shown_path;

use super::Inputs;
use super::files::{FileMark, Kind};

/// Names of what has changed, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// What kiwi's `prepare` reads.
    pub prepare: BTreeSet<String>,
    /// What only its `create` reads.
    pub create: BTreeSet<String>,
}

/// Scripts that `create` alone runs (kiwi 11.1.6, `defaults.py` and `system/setup.py`), and files that only it
/// takes, by the beginning of their names.
const SCRIPTS: [&str; 5] = [
    "config-host-overlay.sh",
    "config-overlay.sh",
    "disk.sh",
    "images.sh",
    "pre_disk_sync.sh",
];
const BEGINNINGS: [&str; 1] = ["config-cdroot.tar"];

pub(super) fn compare(before: &Inputs, now: &Inputs, folder: &Path, stop: &StopCheck) -> Changes {
    let mut changes = Changes::default();
    let sections = different(&before.sections, &now.sections);
    for section in sections {
        let names = match section.half {
            Half::Prepare => &mut changes.prepare,
            Half::Create => &mut changes.create,
        };
        names.insert(section.label.clone());
    }
    let scripts: HashSet<&Path> = (before.scripts.iter().chain(&now.scripts))
        .map(PathBuf::as_path)
        .collect();
    for file in changed_files(before, now, folder, stop) {
        let path = file.path();
        // A folder changes with what is in it.
        let of_create = file.kind_is_file() && (scripts.contains(path) || is_of_create(path));
        let names = if of_create {
            &mut changes.create
        } else {
            &mut changes.prepare
        };
        names.insert(shown_path(path).to_string());
    }
    changes
}

impl FileMark {
    fn kind_is_file(&self) -> bool {
        !matches!(self.kind(), Kind::Folder)
    }
}

fn is_of_create(path: &Path) -> bool {
    let name = path.to_string_lossy();
    SCRIPTS.contains(&&*name)
        || BEGINNINGS
            .iter()
            .any(|beginning| name.starts_with(beginning))
}

/// Sections that are in one of the lists and not in the other.
fn different<'a>(before: &'a [Section], now: &'a [Section]) -> Vec<&'a Section> {
    // A description may have several that are the same.
    let mut more_before: HashMap<&Section, i64> = HashMap::new();
    for section in before {
        *more_before.entry(section).or_default() += 1;
    }
    for section in now {
        *more_before.entry(section).or_default() -= 1;
    }
    more_before.retain(|_, more| *more != 0);
    more_before.into_keys().collect()
}

fn changed_files<'a>(
    before: &'a Inputs,
    now: &'a Inputs,
    folder: &Path,
    stop: &StopCheck,
) -> Vec<&'a FileMark> {
    let find = |files: &'a [FileMark], path: &Path| {
        let at = files.binary_search_by(|file| file.path().as_os_str().cmp(path.as_os_str()));
        at.ok().and_then(|at| files.get(at))
    };
    let gone_or_changed = before.files.iter().filter(|file| {
        let same = |now: &FileMark| file.is_same(now, folder, stop);
        !find(&now.files, file.path()).is_some_and(same)
    });
    let added = now
        .files
        .iter()
        .filter(|file| find(&before.files, file.path()).is_none());
    gone_or_changed.chain(added).collect()
}
