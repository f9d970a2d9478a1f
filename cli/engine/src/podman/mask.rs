//! Folders of which a container sees only some entries: an empty folder takes the place of each, with
//! the entries mounted on stand-ins in it. Nothing on the host is moved.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use boxbuild_protocol::paths;

use super::container::{EntryKind, Mask};

/// A mount: from where, to where, and whether it is read-only.
pub(super) type MaskMount = (PathBuf, PathBuf, bool);

/// The folder that takes the place of another, in the private folder of the container.
fn view(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("mask{number}"))
}

/// Links to the entries, whose own names podman's option syntax may not express.
fn links(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("masked{number}"))
}

/// Makes the folders of `masks` in the private folder `folder`.
pub(super) fn make(masks: &[Mask], folder: &Path) -> io::Result<()> {
    for (number, mask) in masks.iter().enumerate() {
        let (view, links) = (view(folder, number), links(folder, number));
        fs::create_dir(&view)?;
        fs::create_dir(&links)?;
        for (index, entry) in mask.entries.iter().enumerate() {
            let Some(name) = entry.path.file_name() else {
                continue;
            };
            let place = view.join(name);
            match entry.kind {
                EntryKind::Link => symlink(fs::read_link(&entry.path)?, &place)?,
                EntryKind::Folder => fs::create_dir(&place)?,
                EntryKind::File => drop(File::create_new(&place)?),
            }
            symlink(&entry.path, links.join(index.to_string()))?;
        }
    }
    Ok(())
}

/// Whether one of `masks` takes the place of the description itself.
pub(super) fn covers_all(masks: &[Mask]) -> bool {
    masks.iter().any(|mask| mask.place == Path::new(""))
}

/// The mounts for `masks`: each folder before what is in it.
pub(super) fn mounts(masks: &[Mask], folder: &Path, read_only: bool) -> Vec<MaskMount> {
    let mut mounts = Vec::new();
    for (number, mask) in masks.iter().enumerate() {
        let mut place = PathBuf::from(paths::DESCRIPTION);
        if mask.place != Path::new("") {
            place.push(&mask.place);
        }
        mounts.push((view(folder, number), place.clone(), true));
        for (index, entry) in mask.entries.iter().enumerate() {
            if let (false, Some(name)) = (entry.kind == EntryKind::Link, entry.path.file_name()) {
                let from = links(folder, number).join(index.to_string());
                mounts.push((from, place.join(name), read_only));
            }
        }
    }
    mounts
}

#[cfg(test)]
mod tests {
    use super::super::container::MaskedEntry;
    use super::*;

    #[test]
    fn a_mask_has_stand_ins_for_what_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (host, folder) = (dir.path().join("host"), dir.path().join("private"));
        fs::create_dir_all(host.join("root")).unwrap();
        fs::create_dir(&folder).unwrap();
        fs::write(host.join("a:b"), "secret").unwrap();
        symlink("a:b", host.join("link")).unwrap();
        let entry = |kind, name: &str| MaskedEntry {
            kind,
            path: host.join(name),
        };
        let mask = |place: &str| Mask {
            place: place.into(),
            entries: vec![
                entry(EntryKind::File, "a:b"),
                entry(EntryKind::Link, "link"),
                entry(EntryKind::Folder, "root"),
            ],
        };
        let masks = [mask(""), mask("sub/out")];
        make(&masks, &folder).unwrap();
        assert_eq!(fs::read(folder.join("mask0/a:b")).unwrap(), b"");
        assert!(folder.join("mask0/root").is_dir());
        let link = fs::read_link(folder.join("mask1/link")).unwrap();
        assert_eq!(link, Path::new("a:b"));
        let mounts = mounts(&masks, &folder, true);
        let places: Vec<&str> = mounts
            .iter()
            .map(|(_, to, _)| to.to_str().unwrap())
            .collect();
        assert_eq!(
            places,
            [
                "/description",
                "/description/a:b",
                "/description/root",
                "/description/sub/out",
                "/description/sub/out/a:b",
                "/description/sub/out/root"
            ]
        );
        assert_eq!(
            fs::canonicalize(&mounts[2].0).unwrap(),
            fs::canonicalize(host.join("root")).unwrap()
        );
    }
}
