//! Locks on a box's disk: builds share it, unless one writes into it (`--no-snapshot`).

use std::fs;
use std::io;

use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::lock_file::{LockFile, LockKind};

use crate::store::{InstalledBox, disk_lock_path};

/// A lock on a box's disk, held until it is dropped or this process ends.
#[derive(Debug)]
pub struct BoxLock {
    _lock: Option<LockFile>,
}

/// How a build accesses a box's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAccess {
    /// Reads it, as other builds may at the same time.
    Read,
    /// Writes into it, alone.
    Write,
}

/// A box's disk cannot be locked.
#[derive(Debug, thiserror::Error)]
pub enum BoxLockError {
    /// Another build writes into it.
    #[error(
        "another build writes into the disk of the box {0} (--no-snapshot): wait for that build"
    )]
    Written(String),
    /// Other builds use it.
    #[error(
        "--no-snapshot: another build uses the box {0}, so that its disk cannot be written: \
         wait for that build, or leave --no-snapshot out"
    )]
    Used(String),
    /// It cannot be opened or locked.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Classify for BoxLockError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

impl BoxLock {
    /// Locks the disk of `installed`, without waiting.
    ///
    /// # Errors
    /// Fails if another build uses the disk in a way that excludes `access`, or if it cannot be opened.
    pub fn take(installed: &InstalledBox, access: DiskAccess) -> Result<BoxLock, BoxLockError> {
        let path = installed.path(&installed.info.disk);
        let name = &installed.info.name;
        let failed = |error| IoError::on("lock the box's disk", &path)(error);
        fs::metadata(&path).map_err(failed)?;
        let kind = match access {
            DiskAccess::Read => LockKind::Shared,
            DiskAccess::Write => LockKind::Exclusive,
        };
        match LockFile::take(&disk_lock_path(&path), kind) {
            Ok(Some(lock)) => Ok(BoxLock { _lock: Some(lock) }),
            Ok(None) if access == DiskAccess::Read => Err(BoxLockError::Written(name.clone())),
            Ok(None) => Err(BoxLockError::Used(name.clone())),
            // Another user's box: without permission for the lock there is none for the disk.
            Err(error) if access == DiskAccess::Read && is_refused(&error) => {
                Ok(BoxLock { _lock: None })
            }
            Err(error) => Err(failed(error).into()),
        }
    }
}

fn is_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}
