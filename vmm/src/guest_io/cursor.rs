//! A position in buffers: input and output between files and guest memory, without a copy in
//! between.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// The most buffers that one preadv or pwritev takes (`UIO_MAXIOV`, Linux `uapi/linux/uio.h`).
const MAX_IOVECS: usize = 1024;

/// What is left of the buffers that one request reads or writes, from front to back.
#[derive(Debug)]
pub struct Cursor<'a, B: BitmapSlice> {
    slices: &'a [VolatileSlice<'a, B>],
    /// Bytes of the first slice that are done.
    done: usize,
}

impl<'a, B: BitmapSlice> Cursor<'a, B> {
    /// A position at the start of `slices`.
    pub fn new(slices: &'a [VolatileSlice<'a, B>]) -> Self {
        Self { slices, done: 0 }
    }

    /// Bytes that are left.
    pub fn remaining(&self) -> u64 {
        let all: u64 = self.slices.iter().map(|slice| slice.len() as u64).sum();
        all - self.done as u64
    }

    /// Returns up to `len` bytes as buffers for the kernel, without moving on.
    fn peek(&self, len: u64) -> Vec<libc::iovec> {
        let mut left = len;
        let mut skip = self.done;
        let mut buffers = Vec::with_capacity(self.slices.len().min(MAX_IOVECS));
        for slice in self.slices {
            if left == 0 || buffers.len() == MAX_IOVECS {
                break;
            }
            let count = (slice.len() - skip).min(usize::try_from(left).unwrap_or(usize::MAX));
            if count > 0 {
                buffers.push(libc::iovec {
                    iov_base: slice.ptr_guard_mut().as_ptr().wrapping_add(skip).cast(),
                    iov_len: count,
                });
            }
            left -= count as u64;
            skip = 0;
        }
        buffers
    }

    fn advance(&mut self, count: usize) {
        self.done += count;
        while let Some(slice) = self.slices.first()
            && self.done >= slice.len()
        {
            self.done -= slice.len();
            self.slices = &self.slices[1..];
        }
    }

    /// Fills the next `len` bytes from `file` at `offset`. Behind its end are zeros.
    pub(crate) fn fill_from(&mut self, file: &File, offset: u64, len: u64) -> Result<()> {
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let buffers = self.peek(end - at);
            // SAFETY: the buffers are slices of guest memory that `self.slices` borrows; the
            // kernel may write them while others read, as with any device's access.
            let count = unsafe {
                libc::preadv(
                    file.as_raw_fd(),
                    buffers.as_ptr(),
                    buffers.len() as libc::c_int,
                    signed(at)?,
                )
            };
            match usize::try_from(count) {
                Ok(0) => return self.zero(end - at),
                Ok(count) => {
                    self.advance(count);
                    at += count as u64;
                }
                Err(_) => retry()?,
            }
        }
        Ok(())
    }

    /// Writes the next `len` bytes to `file` at `offset`.
    pub(crate) fn drain_to(&mut self, file: &File, offset: u64, len: u64) -> Result<()> {
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let buffers = self.peek(end - at);
            // SAFETY: as above; the kernel only reads them.
            let count = unsafe {
                libc::pwritev(
                    file.as_raw_fd(),
                    buffers.as_ptr(),
                    buffers.len() as libc::c_int,
                    signed(at)?,
                )
            };
            match usize::try_from(count) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.advance(count);
                    at += count as u64;
                }
                Err(_) => retry()?,
            }
        }
        Ok(())
    }

    /// Fills the next bytes with `bytes`.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let slice = self.first()?;
            let count = slice.len().min(rest.len());
            slice.copy_from(&rest[..count]);
            rest = &rest[count..];
            self.advance(count);
        }
        Ok(())
    }

    /// Copies the next bytes to `bytes`.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let slice = self.first()?;
            let count = slice.copy_to(&mut bytes[done..]);
            done += count;
            self.advance(count);
        }
        Ok(())
    }

    /// Fills the next `len` bytes with zeros.
    pub(crate) fn zero(&mut self, len: u64) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = len;
        while left > 0 {
            let count = left.min(ZEROS.len() as u64);
            self.fill(&ZEROS[..count as usize])?;
            left -= count;
        }
        Ok(())
    }

    fn first(&self) -> Result<VolatileSlice<'a, B>> {
        let slice = self.slices.first().ok_or(ErrorKind::UnexpectedEof)?;
        slice.offset(self.done).map_err(Error::other)
    }
}

/// An offset as system calls take it.
///
/// # Errors
/// If no file is that long.
pub(crate) fn signed(offset: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| ErrorKind::InvalidInput.into())
}

/// Whether a failed system call shall be made again.
///
/// # Errors
/// Its error, unless a signal interrupted it.
pub(crate) fn retry() -> Result<()> {
    match Error::last_os_error() {
        error if error.kind() == ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests;
