//! The target folder, held for one run of the program.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use boxbuild_host::error::IoError;
use boxbuild_host::reaper::Reaper;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::{Dir, FileKind, Status, remove_tree};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use super::error::OutputDirError;

/// Name of the folder in the target folder that no other user can enter.
pub(super) const STAGING: &str = ".boxbuild.partial";

/// How often the staging folder is taken again, should others take it away meanwhile.
const TRIES: u32 = 10;

/// A target folder that is held: for one build, or for another attempt at it. It is opened once: a
/// guest that can write into a folder above it changes nothing about where results go.
#[derive(Debug)]
pub struct TargetDir {
    path: PathBuf,
    dir: Dir,
    /// The outermost folder that was made for this run, if any.
    made: Option<PathBuf>,
    staging: Dir,
    /// Removes the staging folder even if this process is killed. Goes before the lock.
    _reaper: Reaper,
    /// On the staging folder: no other user can open that, and no lock file is left behind.
    _lock: Flock<File>,
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
        fs::create_dir_all(path)
            .map_err(advise)
            .map_err(io("create the folder", path))?;
        let dir = Dir::open(path).map_err(io("open the folder", path))?;
        let place = path.join(STAGING);
        let taken = take(&dir)
            .map_err(advise)
            .map_err(io("take the folder", &place))?;
        let Some((staging, lock)) = taken else {
            return Err(OutputDirError::InUse(path.to_owned()));
        };
        let reaper = Reaper::watch(&place, &lock)
            .map_err(io("start the process that cleans up the folder", &place))?;
        Ok(TargetDir {
            path: path.to_owned(),
            dir,
            made,
            staging,
            _reaper: reaper,
            _lock: lock,
        })
    }

    /// Checks whether [`TargetDir::acquire`] can have the folder at `path`. Nothing is made.
    ///
    /// # Errors
    /// Fails, with the error of [`TargetDir::acquire`], if another build or user has it.
    pub fn check(path: &Path) -> Result<(), OutputDirError> {
        let name = OsStr::new(STAGING);
        // A folder that does not exist yet is in use by no build.
        let Ok(dir) = Dir::open(path) else {
            return Ok(());
        };
        match dir.find(name) {
            Ok(Some(status)) if status.owner != geteuid().as_raw() => {
                Err(
                    IoError::on("take the folder", &path.join(STAGING))(belongs_to_another())
                        .into(),
                )
            }
            Ok(Some(status)) if status.kind == FileKind::Folder => {
                let Ok(staging) = dir.folder(name) else {
                    return Ok(());
                };
                let handle = File::from(OwnedFd::from(staging));
                match Flock::lock(handle, FlockArg::LockSharedNonblock) {
                    Err((_, Errno::EWOULDBLOCK)) => Err(OutputDirError::InUse(path.to_owned())),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Its path, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder.
    pub fn dir(&self) -> &Dir {
        &self.dir
    }

    /// The folder in it that no other user can enter.
    pub(super) fn staging(&self) -> &Dir {
        &self.staging
    }
}

/// Adds what to do about a folder that cannot be written.
fn advise(error: io::Error) -> io::Error {
    let kinds = [
        io::ErrorKind::ReadOnlyFilesystem,
        io::ErrorKind::PermissionDenied,
    ];
    if kinds.contains(&error.kind()) {
        let text = format!("{error}: choose another --target-dir");
        return io::Error::new(error.kind(), text);
    }
    error
}

fn belongs_to_another() -> io::Error {
    io::Error::other("it belongs to another user: choose another --target-dir")
}

/// Makes the staging folder, or takes over what a killed build left of one; `None` if another build
/// has it.
fn take(target: &Dir) -> io::Result<Option<(Dir, Flock<File>)>> {
    let name = OsStr::new(STAGING);
    for _ in 0..TRIES {
        let made = match target.make_folder(name, 0o700) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
            made => Some(Status::of(&made?)?),
        };
        // NFS does so for root (root_squash), and FAT, CIFS and FUSE by their mount options. Results
        // there would look like those of another user.
        if let Some(made) = made
            && made.owner != geteuid().as_raw()
        {
            let _ = target.remove_folder(name);
            return Err(io::Error::other(format!(
                "what user {} makes there belongs to user {}: mount it with other options (uid=, \
                 no_root_squash), or choose another --target-dir",
                geteuid(),
                made.owner
            )));
        }
        match target.find(name)? {
            Some(status) if status.owner != geteuid().as_raw() => {
                return Err(belongs_to_another());
            }
            Some(status) if status.kind != FileKind::Folder => target.remove(name)?,
            _ => {}
        }
        let staging = match target.folder(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                target.unlock(name)?;
                continue;
            }
            staging => staging?,
        };
        let handle = File::from(OwnedFd::from(staging.try_clone()?));
        let lock = match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        match staging.set_mode(0o700) {
            // The file system has no modes: its mount options decide who may enter.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            result => result?,
        }
        // A build that has just ended may have removed what was opened.
        let named = target.find(name)?.map(|status| status.inode);
        if named == Some(Status::of(&staging)?.inode) {
            return Ok(Some((staging, lock)));
        }
    }
    Err(io::Error::other(
        "another process keeps replacing it: choose another --target-dir",
    ))
}

impl Drop for TargetDir {
    fn drop(&mut self) {
        // Errors have nowhere to go; the reaper and the next build remove what is left. If it takes
        // too long, the watchdog ends the process, and the reaper goes on.
        let _ = remove_tree(&self.dir, OsStr::new(STAGING), &StopCheck::default());
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
