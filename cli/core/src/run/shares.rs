//! The folders of the host that a box sees, where they lie in each other.

use std::fs;
use std::path::{Path, PathBuf};

use boxbuild_engine::Share;
use boxbuild_engine::podman::{self, EntryKind, Mask, MaskedEntry};
use boxbuild_host::mounts::Mounts;
use boxbuild_host::untrusted::FileKind;

use super::error::BuildError;
use crate::output_dir::{OutputDir, hidden_everywhere};
use crate::plan::{BUNDLE, DESCRIPTION, Plan};

/// Entries of a target folder that a container sees as a part of its description, at most: each is a
/// mount.
const MOST_ENTRIES: usize = 500;

/// The shares of a machine for `plan`. What builds made in the target folder is not seen in the
/// description, which the target folder may be or lie in; folders that the box can write into and also
/// sees elsewhere are not cached.
pub(super) fn shares(plan: &Plan, output: &OutputDir<'_>) -> Result<Vec<Share>, BuildError> {
    let mut shares = plan.shares(output.share());
    let hidden = output.hidden().map_err(BuildError::Folder)?;
    for share in &mut shares {
        if share.tag == DESCRIPTION {
            share.hidden = hidden.clone();
        } else if share.tag != BUNDLE {
            share.hidden = hidden_everywhere();
        }
    }
    let changed = overlapping(&shares);
    Ok(shares
        .into_iter()
        .zip(changed)
        .map(|(share, changed)| if changed { share.uncached() } else { share })
        .collect())
}

/// For each share, whether the guest may change its files through another one. The folder for the
/// results is hidden from all others.
fn overlapping(shares: &[Share]) -> Vec<bool> {
    let mounts = Mounts::read().unwrap_or_default();
    let real: Vec<PathBuf> = shares
        .iter()
        .map(|share| fs::canonicalize(&share.root).unwrap_or_else(|_| share.root.clone()))
        .collect();
    let changes = |one: usize, other: usize| {
        let writable = !shares[one].read_only || !shares[other].read_only;
        let results = shares[one].tag == BUNDLE || shares[other].tag == BUNDLE;
        one != other && writable && !results && mounts.overlap(&real[one], &real[other])
    };
    (0..shares.len())
        .map(|one| (0..shares.len()).any(|other| changes(one, other)))
        .collect()
}

/// What takes the place of the target folder in the description that a container for `plan` sees: all of
/// it but what builds made.
pub(super) fn masks(plan: &Plan, output: &OutputDir<'_>) -> Result<Vec<Mask>, BuildError> {
    let (target, description) = (&plan.target_dir, &plan.description);
    let mounts = Mounts::read().unwrap_or_default();
    let places = mounts.places(target, description);
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let visible = output.visible(MOST_ENTRIES).map_err(BuildError::Folder)?;
    let Some(visible) = visible else {
        return Err(BuildError::TooFull {
            path: target.clone(),
            most: MOST_ENTRIES,
        });
    };
    let entries: Vec<MaskedEntry> = visible
        .into_iter()
        .map(|entry| MaskedEntry {
            kind: match entry.kind {
                FileKind::Folder => EntryKind::Folder,
                FileKind::Link => EntryKind::Link,
                FileKind::Regular | FileKind::Special => EntryKind::File,
            },
            path: target.join(entry.name),
        })
        .collect();
    for entry in entries.iter().filter(|entry| entry.kind != EntryKind::Link) {
        podman::check_place(&entry.path).map_err(BuildError::Unsayable)?;
    }
    let relative = |place: PathBuf| {
        let place = place.strip_prefix(description).unwrap_or(Path::new(""));
        place.to_owned()
    };
    Ok(places
        .into_iter()
        .map(|place| Mask {
            place: relative(place),
            entries: entries.clone(),
        })
        .collect())
}
