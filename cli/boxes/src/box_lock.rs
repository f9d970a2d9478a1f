//! Locks on a box's disk: builds share it, unless one writes into it (`--no-snapshot`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use boxbuild_host::error::{Classify, ErrorClass, IoError};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::store::InstalledBox;

/// A lock on a box's disk, held until it is dropped or this process ends.
#[derive(Debug)]
pub struct BoxLock {
    _file: Flock<File>,
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
        let wanted = match access {
            DiskAccess::Read => FlockArg::LockSharedNonblock,
            DiskAccess::Write => FlockArg::LockExclusiveNonblock,
        };
        loop {
            let file = File::open(&path).map_err(failed)?;
            let file = Flock::lock(file, wanted).map_err(|(_, errno)| match (errno, access) {
                (Errno::EWOULDBLOCK, DiskAccess::Read) => BoxLockError::Written(name.clone()),
                (Errno::EWOULDBLOCK, DiskAccess::Write) => BoxLockError::Used(name.clone()),
                (errno, _) => failed(errno.into()).into(),
            })?;
            // The box may have been replaced between open and lock.
            if is_at(&file, &path).map_err(failed)? {
                return Ok(BoxLock { _file: file });
            }
        }
    }
}

/// Whether `path` still is the open file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (held, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
}
