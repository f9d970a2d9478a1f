//! Builds of one box share its disk, unless one writes into it (`--no-snapshot`).

use boxbuild_host::error::{Classify, ErrorClass};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::store::InstalledBox;

/// A box's disk, held for one build. It goes with this process.
#[derive(Debug)]
pub struct BoxLock {
    _file: Flock<File>,
}

/// How a build uses a box's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It reads it, as others may.
    Read,
    /// It writes into it, and nobody else has it.
    Write,
}

/// The disk cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BoxLockError {
    /// Somebody writes into it.
    #[error(
        "another build writes into the disk of the box {0} (--no-snapshot): wait for that build"
    )]
    Written(String),
    /// Somebody uses it.
    #[error(
        "--no-snapshot: another build uses the box {0}, and its disk cannot be written meanwhile: \
         wait for that build, or leave --no-snapshot out"
    )]
    Used(String),
    /// It cannot be opened or locked.
    #[error("cannot lock the box's disk {path}")]
    Io {
        /// The disk.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Classify for BoxLockError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

impl BoxLock {
    /// Takes the disk of `installed`, without waiting.
    ///
    /// # Errors
    /// If another build is in the way, or the host.
    pub fn take(installed: &InstalledBox, how: Use) -> Result<BoxLock, BoxLockError> {
        let path = installed.path(&installed.info.disk);
        let name = &installed.info.name;
        let failed = |source| BoxLockError::Io {
            path: path.clone(),
            source,
        };
        let wanted = match how {
            Use::Read => FlockArg::LockSharedNonblock,
            Use::Write => FlockArg::LockExclusiveNonblock,
        };
        loop {
            let file = File::open(&path).map_err(failed)?;
            let file = Flock::lock(file, wanted).map_err(|(_, errno)| match (errno, how) {
                (Errno::EWOULDBLOCK, Use::Read) => BoxLockError::Written(name.clone()),
                (Errno::EWOULDBLOCK, Use::Write) => BoxLockError::Used(name.clone()),
                (errno, _) => failed(errno.into()),
            })?;
            // The box may have been replaced by a new one meanwhile.
            if is_at(&file, &path).map_err(failed)? {
                return Ok(BoxLock { _file: file });
            }
        }
    }
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (held, there) = (file.metadata()?, fs::metadata(path)?);
    Ok((held.dev(), held.ino()) == (there.dev(), there.ino()))
}
