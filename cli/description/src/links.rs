//! Links in the description folder that lead out of it: the box does not see what they lead to.

use std::fs;
use std::path::Path;

use crate::element::Place;
use crate::finding::Finding;
use crate::view::{BoxView, Resolved};

/// Most entries that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// Most of them that are told of.
const MOST_FINDINGS: usize = 10;

/// Looks at the entries of the folder itself: what kiwi takes from there is its files and folders
/// (config.sh, root, archives). Links below them are parts of the image.
pub(crate) fn leaving(view: &BoxView) -> Vec<Finding> {
    let Ok(entries) = fs::read_dir(view.folder()) else {
        return Vec::new();
    };
    let mut findings: Vec<Finding> = entries
        .take(MOST_ENTRIES)
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()))
        .filter_map(|entry| {
            let path = BoxView::path(Path::new(&entry.file_name()));
            let Resolved::Nothing { path: target, .. } = view.resolve(&path) else {
                return None;
            };
            let there = fs::metadata(entry.path()).is_ok();
            let advice = if there {
                "; share what it leads to with --shared-path, and let it lead there by its absolute path"
            } else {
                ""
            };
            Some(Finding::note(
                &Place::file(&view.shown(&path)),
                format!(
                    "is a link to {} in the box, where nothing is: kiwi goes on without it{advice}",
                    view.shown(&target)
                ),
            ))
        })
        .collect();
    findings.sort_by(|a, b| a.file.cmp(&b.file));
    findings.truncate(MOST_FINDINGS);
    findings
}
