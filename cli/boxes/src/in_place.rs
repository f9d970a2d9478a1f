//! `--no-snapshot`: the copy of a box's disk that builds write into, and how it is undone.
//!
//! The box's own disk is never written. Such a build writes into a copy, which becomes the disk of all
//! later builds when its guest has powered off in order, until it is removed, or a new version of the box is
//! installed. A guest that was ended in the middle leaves nothing: its file system may have no journal.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::space::Space;
use boxbuild_host::stop::{StopCheck, Stopped};
use boxbuild_host::units::size;
use rustix::fs::{SeekFrom, copy_file_range, ioctl_ficlone, seek};

use crate::box_lock::{BoxLock, BoxLockError, DiskAccess};
use crate::store::{InstalledBox, StoreError};

/// Bytes that are copied between two looks at a request to stop.
const STEP: u64 = 64 << 20;

/// A box's disk cannot be written, or not be made as it was.
#[derive(Debug, thiserror::Error)]
pub enum InPlaceError {
    /// Other builds use it.
    #[error(transparent)]
    Lock(#[from] BoxLockError),
    /// Builds use the box that is to be reset.
    #[error("a build uses the box {0}, which is not reset meanwhile: wait for that build")]
    Used(String),
    /// The file system of the store has no space for the copy.
    #[error(
        "--no-snapshot: the disk of the box {name} is copied first, which takes {}, and only {} are \
         free on the file system of {}: free some space, or leave --no-snapshot out",
        size(*.needed), size(*.free), .folder.display()
    )]
    Room {
        /// Name of the box.
        name: String,
        /// Bytes that the copy takes.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The box's folder.
        folder: PathBuf,
    },
    /// An earlier version of boxbuild had builds write into the box's own disk.
    #[error(
        "the disk of the box {name} was changed by an earlier version of boxbuild, which kept no copy: \
         {again}"
    )]
    Original {
        /// Name of the box.
        name: String,
        /// How to get the box again.
        again: String,
    },
    /// The user did not wait.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The box cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Classify for InPlaceError {
    fn class(&self) -> ErrorClass {
        match self {
            InPlaceError::Stopped(Stopped::Interrupted) => ErrorClass::Interrupted,
            InPlaceError::Lock(error) => error.class(),
            InPlaceError::Store(error) => error.class(),
            _ => ErrorClass::Host,
        }
    }
}

/// A disk that a build writes into. It becomes the box's only by [`Writing::commit`].
#[derive(Debug)]
pub struct Writing {
    unfinished: PathBuf,
    written: PathBuf,
    dir: PathBuf,
    _lock: BoxLock,
}

impl Writing {
    /// Makes the disk the one of later builds, at once and as a whole. To be called when nothing writes into
    /// it any more, and its guest has written everything.
    ///
    /// # Errors
    /// Fails if the host cannot store it: the box is then as it was.
    pub fn commit(self) -> Result<(), InPlaceError> {
        File::open(&self.unfinished)
            .and_then(|disk| disk.sync_all())
            .map_err(IoError::on("write", &self.unfinished))?;
        fs::rename(&self.unfinished, &self.written)
            .map_err(IoError::on("replace", &self.written))?;
        sync(&self.dir)?;
        Ok(())
    }
}

impl Drop for Writing {
    /// What a guest left that was ended in the middle is no file system to build on.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.unfinished);
    }
}

/// Takes the box for a build that writes into its disk, and copies the disk for it.
///
/// # Errors
/// Fails if another build uses the box, or the copy cannot be made: the box is then as it was.
pub fn begin(installed: &InstalledBox, stop: &StopCheck) -> Result<Writing, InPlaceError> {
    let lock = BoxLock::take(installed, DiskAccess::Write)?;
    let writing = Writing {
        unfinished: installed.unfinished_disk(),
        written: installed.written_disk(),
        dir: installed.dir.clone(),
        _lock: lock,
    };
    // A killed process may have left an incomplete copy.
    remove(&writing.unfinished)?;
    fill(installed, &installed.disk(), &writing.unfinished, stop)?;
    Ok(writing)
}

/// Makes the box's disk what it was before builds wrote into it. Returns whether any had.
///
/// # Errors
/// Fails if a build uses the box, or if its own disk was written by an earlier version of boxbuild.
pub fn reset(installed: &InstalledBox) -> Result<bool, InPlaceError> {
    let name = &installed.info.name;
    let lock = BoxLock::take(installed, DiskAccess::Write).map_err(|error| match error {
        BoxLockError::Used(name) | BoxLockError::Written(name) => InPlaceError::Used(name),
        error => error.into(),
    })?;
    let removed = remove(&installed.unfinished_disk())? | remove(&installed.written_disk())?;
    sync(&installed.dir)?;
    if installed.original_changed() {
        return Err(InPlaceError::Original {
            name: name.clone(),
            again: match &installed.info.published {
                Some(_) => format!("fetch it again with 'boxbuild box pull --force {name}'"),
                None => String::from("make it again (create or import, with --force)"),
            },
        });
    }
    drop(lock);
    Ok(removed)
}

/// Removes a file. Returns whether there was one.
fn remove(path: &Path) -> Result<bool, InPlaceError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(IoError::on("remove", path)(error).into()),
    }
}

/// Makes `to` a copy of `disk`, and has it written to the disk of the host.
fn fill(
    installed: &InstalledBox,
    disk: &Path,
    to: &Path,
    stop: &StopCheck,
) -> Result<(), InPlaceError> {
    let from = File::open(disk).map_err(IoError::on("open", disk))?;
    let made = File::create_new(to).map_err(IoError::on("create", to))?;
    let failed = |error| IoError::on("copy the box's disk to", to)(error);
    // Most file systems cannot share the blocks of two files.
    if ioctl_ficlone(&made, &from).is_err() {
        let needed = from.metadata().map_err(failed)?.blocks() * 512;
        if let Some(space) = Space::of_file(&made)
            && !space.has(needed)
        {
            return Err(InPlaceError::Room {
                name: installed.info.name.clone(),
                needed,
                free: space.free.saturating_sub(space.reserve),
                folder: installed.dir.clone(),
            });
        }
        copy(&from, &made, stop)?.map_err(failed)?;
    }
    made.sync_all().map_err(failed)?;
    Ok(())
}

/// Copies the data of a file; its holes stay holes. The outer error is a request to stop.
fn copy(from: &File, to: &File, stop: &StopCheck) -> Result<io::Result<()>, Stopped> {
    let length = match from.metadata() {
        Ok(metadata) => metadata.len(),
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = to.set_len(length) {
        return Ok(Err(error));
    }
    let mut at = 0;
    while let Some((start, end)) = data(from, at, length) {
        at = start;
        while at < end {
            stop.check()?;
            match step(from, to, at, (end - at).min(STEP)) {
                // It became shorter: the lengths of both differ, which its reader finds.
                Ok(0) => return Ok(Ok(())),
                Ok(count) => at += count,
                Err(error) => return Ok(Err(error)),
            }
        }
    }
    Ok(Ok(()))
}

/// The next part of a file with data, from `at` on. Where holes are not known, all is data.
fn data(file: &File, at: u64, length: u64) -> Option<(u64, u64)> {
    if at >= length {
        return None;
    }
    let start = match seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return None,
        Err(_) => return Some((at, length)),
    };
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(length);
    Some((start, end))
}

/// Copies at most `count` bytes at `at`. Returns how many.
fn step(from: &File, to: &File, at: u64, count: u64) -> io::Result<u64> {
    let (mut read, mut written) = (at, at);
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let copied = copy_file_range(
        from.as_fd(),
        Some(&mut read),
        to.as_fd(),
        Some(&mut written),
        most,
    );
    match copied {
        Ok(copied) => Ok(copied as u64),
        // Kernels before 5.19 do not copy between some file systems (copy_file_range(2)).
        Err(
            rustix::io::Errno::XDEV
            | rustix::io::Errno::INVAL
            | rustix::io::Errno::NOSYS
            | rustix::io::Errno::OPNOTSUPP,
        ) => by_buffer(from, to, at, count),
        Err(error) => Err(error.into()),
    }
}

fn by_buffer(from: &File, to: &File, at: u64, count: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    /// Bytes of a read.
    const BUFFER: u64 = 1 << 20;
    let mut buffer = vec![0; usize::try_from(count.min(BUFFER)).unwrap_or_default()];
    let read = from.read_at(&mut buffer, at)?;
    to.write_all_at(&buffer[..read], at)?;
    Ok(read as u64)
}

/// Flushes the entries of a folder to the disk.
fn sync(dir: &Path) -> Result<(), IoError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(IoError::on("write", dir))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use boxbuild_host::interrupt::Interrupt;

    use super::*;

    fn holey(path: &Path) -> File {
        let file = File::create_new(path).unwrap();
        file.write_all_at(b"head", 0).unwrap();
        file.write_all_at(b"tail", 5 << 20).unwrap();
        file.set_len(9 << 20).unwrap();
        drop(file);
        File::open(path).unwrap()
    }

    #[test]
    fn a_copy_has_the_data_and_the_holes() {
        let dir = tempfile::tempdir().unwrap();
        let from = holey(&dir.path().join("from"));
        let to = dir.path().join("to");
        let made = File::create_new(&to).unwrap();
        copy(&from, &made, &StopCheck::default()).unwrap().unwrap();
        assert_eq!(
            fs::read(&to).unwrap(),
            fs::read(dir.path().join("from")).unwrap()
        );
        assert!(made.metadata().unwrap().blocks() * 512 < 8 << 20);
        // The way without copy_file_range.
        let again = File::create_new(dir.path().join("again")).unwrap();
        assert_eq!(by_buffer(&from, &again, 0, 9 << 20).unwrap(), 1 << 20);
    }

    #[test]
    fn a_copy_ends_when_the_user_asks_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let from = holey(&dir.path().join("from"));
        let made = File::create_new(dir.path().join("to")).unwrap();
        let interrupt = Interrupt::default();
        interrupt.request();
        let stop = StopCheck::new(&interrupt, None);
        assert_eq!(copy(&from, &made, &stop).unwrap_err(), Stopped::Interrupted);
    }
}
