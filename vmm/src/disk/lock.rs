//! Locks on images, compatible with those of QEMU and its tools.
//!
//! QEMU (block/file-posix.c) locks single bytes of an image with open-file-description locks,
//! all of them shared: byte 100 + p says that a program uses permission p, byte 200 + p that
//! it does not want others to use it. A program that finds a contradiction gives up.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;

use super::error::ImageError;

const USED: i64 = 100;
const UNSHARED: i64 = 200;

/// Permissions of QEMU's block layer: to see consistent data, to write, to change the length.
const READ: i64 = 0;
const WRITE: i64 = 1;
const RESIZE: i64 = 3;

/// Keeps other programs from writing or resizing `file` while it is open.
pub(super) fn for_reading(file: &File) -> Result<(), ImageError> {
    match lock(file, &[READ], &[WRITE, RESIZE]) {
        // A file system without locks cannot tell; reading must work there.
        Err(ImageError::Io(error)) => {
            log::debug!("the disk image is not locked: {error}");
            Ok(())
        }
        result => result,
    }
}

/// Keeps other programs from using `file` while it is open.
pub(super) fn for_writing(file: &File) -> Result<(), ImageError> {
    lock(file, &[READ, WRITE, RESIZE], &[READ, WRITE, RESIZE])
}

/// Locks first and checks then: of two processes that do so at once, at least one sees the other.
fn lock(file: &File, used: &[i64], unshared: &[i64]) -> Result<(), ImageError> {
    let bytes = |base: i64, set: &[i64]| set.iter().map(|bit| base + bit).collect::<Vec<_>>();
    for byte in [bytes(USED, used), bytes(UNSHARED, unshared)].concat() {
        fcntl(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte)?;
    }
    for byte in [bytes(UNSHARED, used), bytes(USED, unshared)].concat() {
        let found = fcntl(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte)?;
        if i32::from(found.l_type) != libc::F_UNLCK {
            return Err(ImageError::InUse);
        }
    }
    Ok(())
}

fn fcntl(
    file: &File,
    command: libc::c_int,
    kind: libc::c_int,
    byte: i64,
) -> Result<libc::flock, ImageError> {
    // SAFETY: a structure of numbers, for which zeros are values.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    // SAFETY: the pointer is of a structure of the type that the command takes.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if result == 0 {
        return Ok(lock);
    }
    match io::Error::last_os_error() {
        // There is a lock of the other kind, which QEMU never takes.
        error
            if matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::PermissionDenied
            ) =>
        {
            Err(ImageError::InUse)
        }
        error => Err(ImageError::Io(error)),
    }
}
