//! Lock files.
//!
//! A lock of flock(2) takes no more than a file that can be read: any user of the host can lock a file
//! of mode 0644 or a folder of mode 0755, and keep its owner from ever getting the lock. Therefore
//! nothing is locked but files of their own, which no other user can open.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

/// Mode of a lock file.
const MODE: u32 = 0o600;

/// Whether others may hold a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// Others may hold it shared.
    Shared,
    /// No other.
    Exclusive,
}

/// A lock, held until it is dropped or this process ends.
#[derive(Debug)]
pub struct LockFile {
    path: PathBuf,
    file: Flock<File>,
}

impl LockFile {
    /// Takes the lock at `path` without waiting; `None` if another process holds it. The file is made if
    /// it is missing. Another user's file, a link, or one that other users can open, is not used.
    ///
    /// # Errors
    /// Fails if the file cannot be made or opened, or is not fit for a lock.
    pub fn take(path: &Path, kind: LockKind) -> io::Result<Option<LockFile>> {
        let wanted = match kind {
            LockKind::Shared => FlockArg::LockSharedNonblock,
            LockKind::Exclusive => FlockArg::LockExclusiveNonblock,
        };
        loop {
            let file = match Flock::lock(open(path)?, wanted) {
                Ok(file) => file,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, Errno::EINTR)) => continue,
                Err((_, errno)) => return Err(errno.into()),
            };
            // It may have been removed between open and lock.
            if is_at(&file, path) {
                return Ok(Some(LockFile {
                    path: path.to_owned(),
                    file,
                }));
            }
        }
    }

    /// Removes the file of a lock that is held exclusively; the next one who wants the lock makes a new
    /// one.
    pub fn remove(self) {
        // What stays is an empty file, which the next one uses.
        let _ = fs::remove_file(&self.path);
    }

    /// Returns the open file: a process that inherits it holds the lock as well.
    pub fn file(&self) -> &File {
        &self.file
    }
}

fn open(path: &Path) -> io::Result<File> {
    let options = || {
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .mode(MODE)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        options
    };
    let file = options().open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it is not a file of this user",
        ));
    }
    if metadata.mode() & 0o777 != MODE {
        // Who has opened it before keeps what they have: the file is replaced.
        fs::remove_file(path)?;
        let file = options().create_new(true).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        return Ok(file);
    }
    Ok(file)
}

/// Whether `path` still is the open file.
fn is_at(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(there)) = (file.metadata(), fs::symlink_metadata(path)) else {
        return false;
    };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fault 28: any user could lock what everyone can read.
    #[test]
    fn other_users_cannot_open_what_is_locked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("name");
        let lock = LockFile::take(&path, LockKind::Exclusive).unwrap().unwrap();
        assert_eq!(lock.file().metadata().unwrap().mode() & 0o777, 0o600);
        drop(lock);
        // One that others may have opened is replaced, so that their lock does not count.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let _theirs = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusiveNonblock);
        let lock = LockFile::take(&path, LockKind::Exclusive).unwrap().unwrap();
        assert_eq!(lock.file().metadata().unwrap().mode() & 0o777, 0o600);
        // A link leads elsewhere.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(LockFile::take(&link, LockKind::Shared).is_err());
        assert!(LockFile::take(dir.path(), LockKind::Shared).is_err());
    }

    #[test]
    fn locks_exclude_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let take = |kind| LockFile::take(&path, kind).unwrap();
        let shared = take(LockKind::Shared).unwrap();
        assert!(take(LockKind::Shared).is_some());
        assert!(take(LockKind::Exclusive).is_none());
        drop(shared);
        let alone = take(LockKind::Exclusive).unwrap();
        assert!(take(LockKind::Shared).is_none());
        alone.remove();
        assert!(!path.exists());
        assert!(take(LockKind::Shared).is_some());
    }
}
