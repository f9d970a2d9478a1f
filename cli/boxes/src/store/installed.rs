//! Boxes in the store, and what builds change in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_host::lock_file::LockFile;

use super::error::StoreError;
use super::info::{BoxFile, BoxInfo};

/// Name of the lock file in a box's folder.
pub(super) const LOCK: &str = ".lock";

/// Suffix of the file that marks a disk as changed, see [`marker`].
const CHANGED: &str = ".changed";

/// A box in the store, ready to be used.
#[derive(Debug, Clone)]
pub struct InstalledBox {
    /// Folder of the box.
    pub dir: PathBuf,
    /// Its description.
    pub info: BoxInfo,
    /// When its disk was first written in place (`--no-snapshot`): since then, size and
    /// checksum in the description do not hold for it.
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

    /// Records that the box's disk is written in place from now on. A disk that kiwi's own cache
    /// shares by a hard link is copied first.
    ///
    /// # Errors
    /// Fails if the box's folder cannot be written.
    pub fn mark_changed(&self) -> Result<(), StoreError> {
        let disk = self.path(&self.info.disk);
        if changed_in_place(&disk).is_some() {
            return Ok(());
        }
        let linked = fs::metadata(&disk).is_ok_and(|metadata| metadata.nlink() > 1);
        if linked {
            let copy = disk.with_extension("copy");
            fs::copy(&disk, &copy)
                .and_then(|_| fs::rename(&copy, &disk))
                .map_err(IoError::on("copy", &disk))?;
        }
        let path = marker(&disk);
        fs::metadata(&disk)
            .and_then(|metadata| fs::write(&path, metadata.ino().to_string()))
            .map_err(IoError::on("write", &path))?;
        Ok(())
    }
}

/// Returns the path of the lock on the box in a folder: shared by users of the box, exclusive for the
/// removal of old files.
pub(crate) fn lock_path(dir: &Path) -> PathBuf {
    dir.join(LOCK)
}

/// Returns the path of the lock on a disk: shared by builds, unless one writes into it.
pub(crate) fn disk_lock_path(disk: &Path) -> PathBuf {
    let mut path = disk.as_os_str().to_owned();
    path.push(LOCK);
    path.into()
}

/// Returns the path of the file that marks a disk as written in place. Its modification time is that
/// of the first write; it contains the disk's inode number, so that it does not apply to a new disk
/// of the same name.
pub(super) fn marker(disk: &Path) -> PathBuf {
    let mut path = disk.as_os_str().to_owned();
    path.push(CHANGED);
    path.into()
}

/// Returns when `disk` was first written in place, if it was.
pub(super) fn changed_in_place(disk: &Path) -> Option<SystemTime> {
    let marker = marker(disk);
    let inode: u64 = input::read_text(&marker).ok()?.parse().ok()?;
    let same = fs::metadata(disk).is_ok_and(|metadata| metadata.ino() == inode);
    same.then(|| fs::metadata(marker).and_then(|metadata| metadata.modified()))?
        .ok()
}
