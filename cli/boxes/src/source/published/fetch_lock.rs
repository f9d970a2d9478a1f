//! Locks on the folders that boxes are fetched to: one process fetches a box at a time.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_host::error::IoError;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::lock_file::{LockFile, LockKind};
use boxbuild_host::reporter::Reporter;

use crate::store::Store;

/// Beginning of the names of folders that boxes are fetched to.
pub(crate) const PREFIX: &str = ".fetch-";

/// Name of the lock file in such a folder.
const LOCK: &str = ".lock";

/// How often a waiting process tries again.
const RETRY: Duration = Duration::from_millis(100);

/// The folder that a box is fetched to, held by this process alone.
#[derive(Debug)]
pub(super) struct FetchLock {
    dir: PathBuf,
    _lock: LockFile,
}

impl FetchLock {
    /// Waits until no other process has the folder of the box `full_name`, with a note for the user.
    /// `None` means that the user has interrupted that.
    pub(super) fn take(
        store: &Store,
        full_name: &str,
        interrupt: &Interrupt,
        reporter: &mut dyn Reporter,
    ) -> Result<Option<FetchLock>, IoError> {
        let dir = store.root().join(format!("{PREFIX}{full_name}"));
        let mut noted = false;
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&dir)
                .map_err(IoError::on("create", &dir))?;
            match LockFile::take(&dir.join(LOCK), LockKind::Exclusive) {
                Ok(Some(lock)) => return Ok(Some(FetchLock { dir, _lock: lock })),
                // The process that had it is done, and has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(IoError::on("lock", &dir)(error)),
                Ok(None) => {
                    if !noted {
                        reporter.note(&format!(
                            "another boxbuild is fetching the box {full_name}: waiting for it"
                        ));
                        noted = true;
                    }
                    std::thread::sleep(RETRY);
                }
            }
            if interrupt.count() > 0 {
                return Ok(None);
            }
        }
    }

    /// Returns the folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Removes the folder, after the box has been published.
    pub(super) fn done(self) {
        // What cannot be removed now is removed by `box prune`.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Removes the folder of a box that is up to date, which a process left that was killed right after
/// it published the box.
pub(super) fn clear(store: &Store, full_name: &str) {
    remove(&store.root().join(format!("{PREFIX}{full_name}")));
}

/// Removes a folder unless a process has it. Returns the number of bytes freed.
fn remove(dir: &Path) -> u64 {
    let sizes = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = sizes
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    match remove_unused(dir) {
        Some(Ok(())) => size,
        _ => 0,
    }
}

/// Takes a folder that boxes are fetched to; `None` if a process has it.
fn take_unused(dir: &Path) -> Option<LockFile> {
    let lock = dir
        .is_dir()
        .then(|| LockFile::take(&dir.join(LOCK), LockKind::Exclusive))?;
    lock.ok().flatten()
}

/// Whether no process has a folder that boxes are fetched to.
pub(crate) fn is_unused(dir: &Path) -> bool {
    take_unused(dir).is_some()
}

/// Removes a folder that boxes are fetched to; `None` if a process has it.
pub(crate) fn remove_unused(dir: &Path) -> Option<io::Result<()>> {
    let _alone = take_unused(dir)?;
    Some(fs::remove_dir_all(dir))
}
