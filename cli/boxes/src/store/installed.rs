//! Boxes in the store, and what builds change in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use boxbuild_host::input;
use boxbuild_host::lock_file::LockFile;

use super::info::{BoxFile, BoxInfo};

/// Name of the lock file in a box's folder.
pub(super) const LOCK: &str = ".lock";

/// Suffix of the file that marks a disk as changed, see [`marker`].
const CHANGED: &str = ".changed";

/// Suffix of the copy of a disk that builds write into.
const WRITTEN: &str = ".in-place";

/// Suffix of that copy while it is made.
const UNFINISHED: &str = ".in-place.part";

/// A box in the store, ready to be used.
#[derive(Debug, Clone)]
pub struct InstalledBox {
    /// Folder of the box.
    pub dir: PathBuf,
    /// Its description.
    pub info: BoxInfo,
    /// Since when its disk is one that builds have written into (`--no-snapshot`), which no size and
    /// no checksum in the description holds for.
    pub changed: Option<SystemTime>,
    /// Addresses of the files that a build has to fetch first: none for an installed box.
    pub to_fetch: Vec<String>,
    /// Keeps the box's files in place although a new version is published meanwhile.
    pub(super) _hold: Option<Arc<LockFile>>,
}

impl InstalledBox {
    /// Returns a box that is not installed, as far as it is known before it is fetched.
    pub fn prospective(dir: PathBuf, info: BoxInfo, to_fetch: Vec<String>) -> InstalledBox {
        InstalledBox {
            dir,
            info,
            changed: None,
            to_fetch,
            _hold: None,
        }
    }

    /// Returns the path of one of the box's files.
    pub fn path(&self, file: &BoxFile) -> PathBuf {
        self.dir.join(&file.name)
    }

    /// Returns the path of the disk that builds see: the box's own, or the copy that builds with
    /// `--no-snapshot` have written into.
    pub fn disk(&self) -> PathBuf {
        let written = self.written_disk();
        if written.exists() {
            written
        } else {
            self.path(&self.info.disk)
        }
    }

    /// Returns the path of the copy that builds with `--no-snapshot` write into, which may not exist.
    pub fn written_disk(&self) -> PathBuf {
        with_suffix(&self.path(&self.info.disk), WRITTEN)
    }

    /// Returns the path of that copy while it is made, and while a build writes into it.
    pub fn unfinished_disk(&self) -> PathBuf {
        with_suffix(&self.path(&self.info.disk), UNFINISHED)
    }

    /// Whether the box's own disk was written by an earlier version of boxbuild, which made no copy.
    pub(crate) fn original_changed(&self) -> bool {
        changed_original(&self.path(&self.info.disk)).is_some()
    }
}

/// Returns the path of the lock on the box in a folder: shared by users of the box, exclusive for the
/// removal of old files.
pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    dir.join(LOCK)
}

/// Returns the path of the lock on a disk: shared by builds, unless one writes into it.
pub(crate) fn disk_lock_path(disk: &Path) -> PathBuf {
    with_suffix(disk, LOCK)
}

/// Returns the path of the copy of `disk` that builds with `--no-snapshot` write into.
pub(super) fn written_path(disk: &Path) -> PathBuf {
    with_suffix(disk, WRITTEN)
}

/// Returns the path of the file by which an earlier version of boxbuild marks a disk that builds wrote
/// into, without a copy. Its modification time is that of the first write; it contains the disk's inode
/// number, so that it does not apply to a new disk of the same name.
pub(super) fn marker(disk: &Path) -> PathBuf {
    with_suffix(disk, CHANGED)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns since when the disk that builds see is not `disk` as it was installed.
pub(super) fn changed_in_place(disk: &Path) -> Option<SystemTime> {
    let written = fs::metadata(written_path(disk)).ok();
    written
        .and_then(|metadata| metadata.created().or_else(|_| metadata.modified()).ok())
        .or_else(|| changed_original(disk))
}

/// Returns when an earlier version of boxbuild first had a build write into `disk` itself.
pub(super) fn changed_original(disk: &Path) -> Option<SystemTime> {
    let marker = marker(disk);
    let inode: u64 = input::read_text(&marker).ok()?.parse().ok()?;
    let same = fs::metadata(disk).is_ok_and(|metadata| metadata.ino() == inode);
    same.then(|| fs::metadata(marker).and_then(|metadata| metadata.modified()))?
        .ok()
}
