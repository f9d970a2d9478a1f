//! Files of one folder, by an open descriptor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, Timespec, Timestamps, flock, fstat, futimens, linkat,
    openat, renameat, statat, unlinkat,
};

/// The folder.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

/// Numbers names of files that are being written.
static LAST: AtomicU64 = AtomicU64::new(0);

impl Folder {
    pub(super) fn new(folder: OwnedFd) -> Folder {
        Folder(folder)
    }

    pub(super) fn fd(&self) -> &OwnedFd {
        &self.0
    }

    /// Opens a file for reading; nothing else than a file.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDONLY)
    }

    /// Opens a file for reading and writing.
    pub(super) fn open_to_write(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR)
    }

    /// Creates a file that is not there yet.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    pub(super) fn open_or_create(&self, name: &str) -> io::Result<File> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE)
    }

    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?;
        let file = File::from(file);
        let regular = file.metadata()?.is_file();
        regular
            .then_some(file)
            .ok_or(io::ErrorKind::InvalidInput.into())
    }

    /// Removes a file, if it is there and can be removed.
    pub(super) fn remove(&self, name: &str) {
        let _ = unlinkat(&self.0, name, AtFlags::empty());
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Gives a file a second name, in the place of what has it.
    pub(super) fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let new = new_name(to);
        self.remove(&new);
        linkat(&self.0, from, &self.0, &new, AtFlags::empty())?;
        let renamed = self.rename(&new, to);
        // Two names of one file are both left by a rename.
        self.remove(&new);
        renamed
    }

    /// Puts a file with these bytes in the place of `name`, at once or not at all.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let new = new_name(name);
        // It would be one that a killed process of this id has left.
        self.remove(&new);
        let written = self
            .create(&new)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| self.rename(&new, name));
        if written.is_err() {
            self.remove(&new);
        }
        written
    }

    /// Whether `file` is what has this name.
    pub(super) fn is_linked(&self, file: &File, name: &str) -> bool {
        let named = statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW);
        let same = |one: rustix::fs::Stat, other: rustix::fs::Stat| {
            (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
        };
        named.is_ok_and(|named| fstat(file).is_ok_and(|own| same(own, named)))
    }
}

/// A name for a file until it has its own.
fn new_name(name: &str) -> String {
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    format!(
        ".{name}.{}.{number}{}",
        std::process::id(),
        super::suffix::NEW
    )
}

/// Locks a file for this process alone, if no other one has.
pub(super) fn lock(file: &File) -> bool {
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Whether no process has locked a file for itself.
pub(super) fn is_unlocked(file: &File) -> bool {
    let unlocked = flock(file, FlockOperation::NonBlockingLockShared).is_ok();
    if unlocked {
        let _ = flock(file, FlockOperation::Unlock);
    }
    unlocked
}

/// Notes that a file was used now: the one that was not for longest goes first.
pub(super) fn touch(file: &impl AsFd) {
    // The kernel's own time of a file lags behind by a tick.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = Timespec {
        tv_sec: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: now.subsec_nanos().into(),
    };
    // Without, it goes earlier.
    let _ = futimens(
        file,
        &Timestamps {
            last_access: now,
            last_modification: now,
        },
    );
}
