//! Free space of file systems, looked at while files grow.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};

/// Free space that is left on a file system, in bytes.
pub const RESERVE: u64 = 256 << 20;

/// On a file system with less than sixteen times [`RESERVE`], this part of it is left.
const PART: u64 = 16;

/// How often free space is looked at, in bytes written. Others write as well, so that it is far less
/// than the smallest reserve of a usual file system.
const STEP: u64 = 4 << 20;

/// Space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that a user may write.
    pub free: u64,
    /// Bytes of these that are to be left.
    pub reserve: u64,
}

impl Space {
    /// Returns the space of the file system that has `path`; `None` if it is not known.
    pub fn at(path: &Path) -> Option<Space> {
        statvfs(path).ok().and_then(|stat| Space::of(&stat))
    }

    /// Returns the space of the file system that an open file is in; `None` if it is not known.
    pub fn of_file(file: &impl AsFd) -> Option<Space> {
        fstatvfs(file).ok().and_then(|stat| Space::of(&stat))
    }

    #[allow(
        clippy::useless_conversion,
        reason = "the numbers' types depend on the target"
    )]
    fn of(stat: &Statvfs) -> Option<Space> {
        let unit = u64::from(stat.fragment_size());
        let bytes = |blocks: u64| blocks.saturating_mul(unit);
        Space::of_bytes(
            bytes(u64::from(stat.blocks())),
            bytes(u64::from(stat.blocks_available())),
        )
    }

    /// A file system of no size is one that does not tell: FUSE's default is an answer of zeros.
    fn of_bytes(total: u64, free: u64) -> Option<Space> {
        (total > 0).then(|| Space {
            free,
            reserve: RESERVE.min(total / PART),
        })
    }

    /// Whether `needed` bytes can be written with the reserve left.
    pub fn has(self, needed: u64) -> bool {
        self.free >= needed.saturating_add(self.reserve)
    }
}

/// Counts what is written to a file, and looks at the free space of its file system from time to time.
#[derive(Debug, Default)]
pub struct SpaceGuard {
    /// Bytes until the next look.
    left: u64,
}

impl SpaceGuard {
    /// To be called before `count` bytes are written to `file`.
    ///
    /// # Errors
    /// Fails with [`io::ErrorKind::StorageFull`] if the reserve would not be left.
    pub fn take(&mut self, file: &File, count: usize) -> io::Result<()> {
        let count = count as u64;
        if let Some(left) = self.left.checked_sub(count) {
            self.left = left;
            return Ok(());
        }
        let Some(space) = Space::of_file(file) else {
            self.left = STEP;
            return Ok(());
        };
        if !space.has(count) {
            let text = format!(
                "the file system has {} MiB of free space left, and {} MiB are reserved",
                space.free >> 20,
                space.reserve >> 20
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, text));
        }
        // Near the end, at each call.
        self.left = if space.has(count + STEP) { STEP } else { 0 };
        Ok(())
    }
}

/// A file that grows as long as its file system has space.
#[derive(Debug)]
pub struct GuardedFile {
    file: File,
    guard: SpaceGuard,
}

impl GuardedFile {
    /// Takes a file that is open for writing.
    pub fn new(file: File) -> GuardedFile {
        GuardedFile {
            file,
            guard: SpaceGuard::default(),
        }
    }

    /// Returns the file.
    pub fn into_inner(self) -> File {
        self.file
    }
}

impl Write for GuardedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.guard.take(&self.file, bytes.len())?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left() {
        let space = Space {
            free: 100,
            reserve: 10,
        };
        assert!(space.has(90) && !space.has(91) && !space.has(u64::MAX));
        assert_eq!(Space::of_bytes(0, 0), None);
        assert_eq!(Space::of_bytes(160, 100), Some(space));
        let dir = tempfile::tempdir().unwrap();
        let here = Space::at(dir.path()).unwrap();
        assert!(here.reserve <= RESERVE);
        let file = File::create(dir.path().join("file")).unwrap();
        let mut guard = SpaceGuard::default();
        guard.take(&file, 1).unwrap();
        let error = guard.take(&file, 1 << 60).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
