//! The target folder, held for one run of the program.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::untrusted::Dir;
use nix::fcntl::{Flock, FlockArg};

use super::error::OutputDirError;

/// A target folder that is held: for one build, or for another attempt at it. It is opened once: a
/// guest that can write into a folder above it changes nothing about where results go.
#[derive(Debug)]
pub struct TargetDir {
    path: PathBuf,
    dir: Dir,
    /// The outermost folder that was made for this run, if any.
    made: Option<PathBuf>,
    lock: Flock<File>,
}

impl TargetDir {
    /// Makes the folder if need be, and takes it.
    ///
    /// # Errors
    /// Fails if another build holds it, or it cannot be made.
    pub fn acquire(path: &Path) -> Result<TargetDir, OutputDirError> {
        let io = IoError::on;
        let mut made = None;
        let mut missing = path;
        while !missing.exists() {
            made = Some(missing.to_owned());
            let Some(parent) = missing.parent() else {
                break;
            };
            missing = parent;
        }
        fs::create_dir_all(path).map_err(io("create the folder", path))?;
        let dir = Dir::open(path).map_err(io("open the folder", path))?;
        // The lock is on the folder itself: no lock file that could be left behind.
        let handle = dir
            .as_fd()
            .try_clone_to_owned()
            .map_err(io("open the folder", path))?;
        let lock = Flock::lock(File::from(handle), FlockArg::LockExclusiveNonblock).map_err(
            |(_, errno)| match errno {
                nix::errno::Errno::EWOULDBLOCK => OutputDirError::InUse(path.to_owned()),
                errno => io("lock the folder", path)(errno.into()).into(),
            },
        )?;
        Ok(TargetDir {
            path: path.to_owned(),
            dir,
            made,
            lock,
        })
    }

    /// Its path, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(super) fn lock(&self) -> &File {
        &self.lock
    }
}

impl Drop for TargetDir {
    fn drop(&mut self) {
        // Of folders that were made for nothing, only empty ones can be removed.
        if let Some(made) = &self.made {
            let mut empty = self.path.as_path();
            while fs::remove_dir(empty).is_ok() && empty != made {
                let Some(parent) = empty.parent() else { break };
                empty = parent;
            }
        }
    }
}
