//! Input and output between files and guest memory, without a copy in between.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;

use vm_memory::VolatileSlice;
use vm_memory::bitmap::BitmapSlice;

/// The most buffers that one preadv or pwritev takes (`UIO_MAXIOV`, Linux `uapi/linux/uio.h`).
const MAX_BUFFERS: usize = 1024;

/// Parts of guest memory that one request reads or writes, taken from the front.
#[derive(Debug)]
pub struct Buffers<'a, B: BitmapSlice> {
    parts: &'a [VolatileSlice<'a, B>],
    /// Bytes of the first part that are done.
    done: usize,
}

impl<'a, B: BitmapSlice> Buffers<'a, B> {
    /// All of `parts`, in order.
    pub fn new(parts: &'a [VolatileSlice<'a, B>]) -> Self {
        Self { parts, done: 0 }
    }

    /// Bytes that are left.
    pub fn len(&self) -> u64 {
        let all: u64 = self.parts.iter().map(|part| part.len() as u64).sum();
        all - self.done as u64
    }

    /// Takes up to `len` bytes as buffers for the kernel, without moving on.
    fn peek(&self, len: u64) -> Vec<libc::iovec> {
        let mut left = len;
        let mut skip = self.done;
        let mut buffers = Vec::with_capacity(self.parts.len().min(MAX_BUFFERS));
        for part in self.parts {
            if left == 0 || buffers.len() == MAX_BUFFERS {
                break;
            }
            let count = (part.len() - skip).min(usize::try_from(left).unwrap_or(usize::MAX));
            if count > 0 {
                buffers.push(libc::iovec {
                    iov_base: part.ptr_guard_mut().as_ptr().wrapping_add(skip).cast(),
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
        while let Some(part) = self.parts.first()
            && self.done >= part.len()
        {
            self.done -= part.len();
            self.parts = &self.parts[1..];
        }
    }

    /// Fills the next `len` bytes from `file` at `offset`. Behind its end are zeros.
    pub(super) fn fill_from(&mut self, file: &File, offset: u64, len: u64) -> Result<()> {
        let mut at = offset;
        let end = offset + len;
        while at < end {
            let buffers = self.peek(end - at);
            // SAFETY: the buffers are parts of guest memory that `self.parts` borrows; the
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
    pub(super) fn drain_to(&mut self, file: &File, offset: u64, len: u64) -> Result<()> {
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
    pub(super) fn fill(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let part = self.first()?;
            let count = part.len().min(rest.len());
            part.copy_from(&rest[..count]);
            rest = &rest[count..];
            self.advance(count);
        }
        Ok(())
    }

    /// Takes the next bytes into `bytes`.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let part = self.first()?;
            let count = part.copy_to(&mut bytes[done..]);
            done += count;
            self.advance(count);
        }
        Ok(())
    }

    /// Fills the next `len` bytes with zeros.
    pub(super) fn zero(&mut self, len: u64) -> Result<()> {
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
        let part = self.parts.first().ok_or(ErrorKind::UnexpectedEof)?;
        part.offset(self.done).map_err(Error::other)
    }
}

/// Reads all of `bytes` from `file` at `offset`; zeros stand for what is behind its end.
pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<()> {
    use std::os::unix::fs::FileExt;
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
    use std::os::unix::fs::FileExt;
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

fn signed(offset: u64) -> Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| ErrorKind::InvalidInput.into())
}

fn retry() -> Result<()> {
    match Error::last_os_error() {
        error if error.kind() == ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}
