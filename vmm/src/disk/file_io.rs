//! Input and output of files at offsets.

use std::fs::File;
use std::io::{ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use crate::guest_io::{retry, signed};

/// Reads all of `bytes` from `file` at `offset`; zeros stand for what is behind its end.
pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => {
                bytes[done..].fill(0);
                return Ok(());
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes a range read as zeros and gives its space back to the host's file system.
///
/// # Errors
/// [`ErrorKind::Unsupported`] if the file system has no holes.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> Result<()> {
    if len == 0 {
        return Ok(());
    }
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    loop {
        // SAFETY: the call has no pointers.
        let result =
            unsafe { libc::fallocate(file.as_raw_fd(), mode, signed(offset)?, signed(len)?) };
        if result == 0 {
            return Ok(());
        }
        retry()?;
    }
}

/// Writes zeros into a range.
pub(super) fn write_zeros(file: &File, offset: u64, len: u64) -> Result<()> {
    let zeros = vec![0; len.min(1 << 20) as usize];
    let mut done = 0;
    while done < len {
        let count = (len - done).min(zeros.len() as u64);
        file.write_all_at(&zeros[..count as usize], offset + done)?;
        done += count;
    }
    Ok(())
}

/// The same as [`punch`], with zeros where there are no holes.
pub(super) fn punch_or_write(file: &File, offset: u64, len: u64) -> Result<()> {
    match punch(file, offset, len) {
        Err(error) if error.kind() == ErrorKind::Unsupported => write_zeros(file, offset, len),
        result => result,
    }
}
