//! A disk in a raw file.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;

use nix::fcntl::{FallocateFlags, fallocate};

use super::{Disk, SECTOR};
use crate::virtio::Buffers;

/// Buffers of one system call (`UIO_MAXIOV`).
const MOST_BUFFERS: usize = 1024;

/// A raw file.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    size: u64,
    read_only: bool,
}

impl RawDisk {
    /// The disk in `file`; a rest that is no whole sector is left out.
    ///
    /// # Errors
    /// If the size of the file cannot be found out.
    pub fn new(mut file: File, read_only: bool) -> io::Result<RawDisk> {
        // Works for block devices as well, unlike the size in the file's metadata.
        let size = file.seek(SeekFrom::End(0))? / SECTOR * SECTOR;
        Ok(RawDisk {
            file,
            size,
            read_only,
        })
    }

    /// Calls `call` with the buffers that are still to do, their count, and the file's offset.
    fn transfer(
        buffers: &Buffers<'_>,
        offset: u64,
        call: impl Fn(*const libc::iovec, i32, i64) -> isize,
    ) -> io::Result<()> {
        let mut iovecs: Vec<libc::iovec> = buffers
            .slices()
            .iter()
            .map(|slice| libc::iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            })
            .collect();
        let mut next = 0;
        let mut offset = i64::try_from(offset).map_err(io::Error::other)?;
        loop {
            let done_with = |iovec: &&libc::iovec| iovec.iov_len == 0;
            next += iovecs.iter().skip(next).take_while(done_with).count();
            let rest = iovecs.get_mut(next..).unwrap_or_default();
            if rest.is_empty() {
                return Ok(());
            }
            let count = rest.len().min(MOST_BUFFERS) as i32;
            let done = call(rest.as_ptr(), count, offset);
            let Ok(mut done) = usize::try_from(done) else {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            };
            if done == 0 {
                // The file has become shorter.
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            offset += done as i64;
            for iovec in rest {
                let here = done.min(iovec.iov_len);
                iovec.iov_base = iovec.iov_base.wrapping_byte_add(here);
                iovec.iov_len -= here;
                done -= here;
            }
        }
    }
}

impl Disk for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&mut self, offset: u64, target: &Buffers<'_>) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        Self::transfer(target, offset, |iovecs, count, offset| {
            // SAFETY: the buffers are guest memory, mapped while `target` lives, which is only
            // ever used as volatile bytes; there are `count` of them.
            unsafe { libc::preadv(fd, iovecs, count, offset) }
        })
    }

    fn write(&mut self, offset: u64, source: &Buffers<'_>) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        Self::transfer(source, offset, |iovecs, count, offset| {
            // SAFETY: the buffers are guest memory, mapped while `source` lives; there are
            // `count` of them.
            unsafe { libc::pwritev(fd, iovecs, count, offset) }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn zero(&mut self, offset: u64, len: u64, discard: bool) -> io::Result<()> {
        let (start, count) = (
            i64::try_from(offset).map_err(io::Error::other)?,
            i64::try_from(len).map_err(io::Error::other)?,
        );
        let punch = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, punch, start, count) {
            Ok(()) => Ok(()),
            // The file system cannot.
            Err(nix::Error::EOPNOTSUPP) if discard => Ok(()),
            Err(nix::Error::EOPNOTSUPP) => write_zeros(&self.file, offset, len),
            Err(error) => Err(error.into()),
        }
    }

    fn serial(&self) -> String {
        String::from("boxbuild")
    }
}

fn write_zeros(file: &File, offset: u64, len: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let zeros = vec![0; 64 << 10];
    let mut done = 0;
    while done < len {
        let count = (len - done).min(zeros.len() as u64) as usize;
        file.write_all_at(zeros.get(..count).unwrap_or_default(), offset + done)?;
        done += count as u64;
    }
    Ok(())
}
