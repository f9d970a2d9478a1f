//! A request's guest memory: one virtio descriptor chain as two scattered byte ranges.
//!
//! File data is not copied: [`GuestSource`] and [`GuestSink`] pass the guest's pages to the
//! kernel. Everything else (headers, names, replies) is copied exactly once, so the guest cannot
//! change it after it was checked.

use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use virtio_queue::DescriptorChain;
use vm_memory::bitmap::{BS, BitmapSlice};
use vm_memory::{Address, GuestAddress, GuestMemory, Permissions, VolatileSlice};

/// The most buffers that one preadv/pwritev takes (`UIO_MAXIOV`, Linux `uapi/linux/uio.h`).
const MAX_IOVECS: usize = 1024;

/// The most buffers of a request: the entries of the largest queue that there is for a share (QEMU's
/// default). An indirect table could have 65535, but no driver makes a chain that is longer than its
/// queue (virtio 1.2, section 2.7.5.3.1).
const MAX_BUFFERS: usize = 1024;

/// A descriptor chain that cannot be a FUSE request.
///
/// The guest's driver is broken or hostile; the device shall stop.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A buffer is not (entirely) guest memory.
    #[error("a buffer of the request lies outside of the guest's memory: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// Virtio 1.2, 2.7.4.2: all device-readable buffers come before the writable ones.
    #[error("the request has a readable buffer after a writable one")]
    Order,
    /// There are more of them than any driver makes.
    #[error("the request has more than {MAX_BUFFERS} buffers")]
    Long,
    /// The buffers are shorter than the protocol requires here.
    #[error("the request's buffers hold {have} bytes where {need} are needed")]
    Short {
        /// Bytes that the chain has.
        have: usize,
        /// Bytes that the protocol requires.
        need: usize,
    },
}

/// A scattered range of guest memory, all of one direction.
#[derive(Debug)]
pub(crate) struct Segments<'a, B> {
    slices: Vec<VolatileSlice<'a, B>>,
    len: usize,
}

impl<'a, B: BitmapSlice> Segments<'a, B> {
    fn new() -> Self {
        Self {
            slices: Vec::with_capacity(4),
            len: 0,
        }
    }

    fn push(&mut self, slice: VolatileSlice<'a, B>) {
        self.len += slice.len();
        self.slices.push(slice);
    }

    /// Bytes in the range.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Calls `visit` for each slice that has bytes of `offset..offset + len`, with the offset in
    /// the slice, the number of bytes, and their offset in that range.
    fn pieces(
        &self,
        offset: usize,
        len: usize,
        mut visit: impl FnMut(&VolatileSlice<'a, B>, usize, usize, usize),
    ) -> Result<(), ChainError> {
        let need = offset.saturating_add(len);
        if need > self.len {
            return Err(ChainError::Short {
                have: self.len,
                need,
            });
        }
        let (mut skip, mut done) = (offset, 0);
        for slice in &self.slices {
            if done == len {
                break;
            }
            if skip >= slice.len() {
                skip -= slice.len();
                continue;
            }
            let count = (slice.len() - skip).min(len - done);
            visit(slice, skip, count, done);
            done += count;
            skip = 0;
        }
        Ok(())
    }

    /// Copies from guest memory, from `offset` on, to `buffer`.
    pub(crate) fn read(&self, offset: usize, buffer: &mut [u8]) -> Result<(), ChainError> {
        self.pieces(offset, buffer.len(), |slice, from, count, to| {
            if let (Ok(part), Some(target)) =
                (slice.subslice(from, count), buffer.get_mut(to..to + count))
            {
                part.copy_to(target);
            }
        })
    }

    /// Copies `bytes` to guest memory, from `offset` on.
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Result<(), ChainError> {
        self.pieces(offset, bytes.len(), |slice, to, count, from| {
            if let (Ok(part), Some(source)) =
                (slice.subslice(to, count), bytes.get(from..from + count))
            {
                part.copy_from(source);
            }
        })
    }

    /// Marks a range as written in the dirty bitmap, after the kernel wrote to it.
    pub(crate) fn mark_dirty(&self, offset: usize, len: usize) {
        let _ = self.pieces(offset, len, |slice, from, count, _| {
            slice.bitmap().mark_dirty(from, count);
        });
    }

    fn iovecs(&self, offset: usize, len: usize) -> Result<Vec<libc::iovec>, ChainError> {
        let mut iovecs = Vec::with_capacity(self.slices.len());
        self.pieces(offset, len, |slice, from, count, _| {
            if let Ok(part) = slice.subslice(from, count) {
                iovecs.push(libc::iovec {
                    iov_base: part.ptr_guard_mut().as_ptr().cast(),
                    iov_len: count,
                });
            }
        })?;
        Ok(iovecs)
    }

    /// Returns the `len` bytes from `offset` on as the data of a write.
    pub(crate) fn source(&self, offset: usize, len: usize) -> Result<GuestSource<'_>, ChainError> {
        Ok(GuestSource {
            iovecs: self.iovecs(offset, len)?,
            len,
            memory: PhantomData,
        })
    }

    /// Returns the `len` bytes from `offset` on as the target of a read.
    pub(crate) fn sink(&self, offset: usize, len: usize) -> Result<GuestSink<'_>, ChainError> {
        Ok(GuestSink {
            iovecs: self.iovecs(offset, len)?,
            len,
            memory: PhantomData,
        })
    }
}

/// One or more adjacent descriptors. Guests have a descriptor for each page of data, often in
/// a row; resolving them together saves most of the work.
#[derive(Debug)]
struct Buffer {
    start: GuestAddress,
    len: usize,
    writable: bool,
}

impl Buffer {
    fn is_continued_by(&self, next: &Self) -> bool {
        self.writable == next.writable
            && self.start.checked_add(self.len as u64) == Some(next.start)
            && self.len.checked_add(next.len).is_some()
    }

    fn resolve<'a, M: GuestMemory>(
        self,
        mem: &'a M,
        readable: &mut Segments<'a, BS<'a, M::Bitmap>>,
        writable: &mut Segments<'a, BS<'a, M::Bitmap>>,
    ) -> Result<(), ChainError> {
        let (part, access) = if self.writable {
            (writable, Permissions::Write)
        } else {
            (readable, Permissions::Read)
        };
        for slice in mem.get_slices(self.start, self.len, access)? {
            part.push(slice?);
        }
        Ok(())
    }
}

/// A request's readable and writable part.
pub(crate) type Parts<'a, B> = (Segments<'a, B>, Segments<'a, B>);

/// Splits a chain into its readable and its writable part. Fails if a buffer is not in `mem` or
/// the order is wrong.
pub(crate) fn split<'a, M, D>(
    mem: &'a M,
    chain: DescriptorChain<D>,
) -> Result<Parts<'a, BS<'a, M::Bitmap>>, ChainError>
where
    M: GuestMemory,
    D: Deref,
    D::Target: GuestMemory,
{
    let (mut readable, mut writable) = (Segments::new(), Segments::new());
    let mut pending: Option<Buffer> = None;
    for (count, descriptor) in chain.enumerate() {
        if count >= MAX_BUFFERS {
            return Err(ChainError::Long);
        }
        let next = Buffer {
            start: descriptor.addr(),
            len: descriptor.len() as usize,
            writable: descriptor.is_write_only(),
        };
        match &mut pending {
            Some(before) if before.is_continued_by(&next) => before.len += next.len,
            Some(before) if before.writable && !next.writable => return Err(ChainError::Order),
            Some(before) => {
                let before = std::mem::replace(before, next);
                before.resolve(mem, &mut readable, &mut writable)?;
            }
            None => pending = Some(next),
        }
    }
    if let Some(last) = pending {
        last.resolve(mem, &mut readable, &mut writable)?;
    }
    Ok((readable, writable))
}

/// Guest memory with the data of a WRITE.
#[derive(Debug)]
pub struct GuestSource<'a> {
    iovecs: Vec<libc::iovec>,
    len: usize,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> GuestSource<'a> {
    /// Wraps data in our own memory, for callers without a guest.
    pub fn from_slice(data: &'a [u8]) -> Self {
        let iovec = libc::iovec {
            iov_base: data.as_ptr().cast_mut().cast(),
            iov_len: data.len(),
        };
        Self {
            iovecs: vec![iovec],
            len: data.len(),
            memory: PhantomData,
        }
    }

    /// Returns the number of bytes to write.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes the data to `file` at `offset` (bytes); returns how many bytes were written.
    ///
    /// # Errors
    /// Of pwritev(2), if nothing could be written at all.
    pub fn write_to(&self, file: impl AsFd, offset: u64) -> io::Result<usize> {
        transfer(libc::pwritev, file.as_fd(), &self.iovecs, offset)
    }
}

/// Guest memory that a READ fills.
#[derive(Debug)]
pub struct GuestSink<'a> {
    iovecs: Vec<libc::iovec>,
    len: usize,
    memory: PhantomData<&'a mut [u8]>,
}

impl<'a> GuestSink<'a> {
    /// Wraps a target in our own memory, for callers without a guest.
    pub fn from_slice(data: &'a mut [u8]) -> Self {
        let iovec = libc::iovec {
            iov_base: data.as_mut_ptr().cast(),
            iov_len: data.len(),
        };
        Self {
            iovecs: vec![iovec],
            len: data.len(),
            memory: PhantomData,
        }
    }

    /// Returns the number of bytes that may be read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing may be read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills the memory from `file` at `offset` (bytes); returns how many bytes were read, fewer
    /// than [`len`](Self::len) only at the end of the file.
    ///
    /// # Errors
    /// Of preadv(2), if nothing could be read at all.
    pub fn read_from(&self, file: impl AsFd, offset: u64) -> io::Result<usize> {
        transfer(libc::preadv, file.as_fd(), &self.iovecs, offset)
    }
}

/// preadv(2) or pwritev(2). rustix has both, but for slices, which memory that a guest writes to
/// meanwhile must not be borrowed as.
type Vectored = unsafe extern "C" fn(
    libc::c_int,
    *const libc::iovec,
    libc::c_int,
    libc::off_t,
) -> libc::ssize_t;

/// Runs `call` over all of `iovecs`, at most [`MAX_IOVECS`] at a time, until it comes up short.
fn transfer(
    call: Vectored,
    file: BorrowedFd<'_>,
    iovecs: &[libc::iovec],
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0_usize;
    for chunk in iovecs.chunks(MAX_IOVECS) {
        let position = offset
            .checked_add(done as u64)
            .and_then(|position| i64::try_from(position).ok())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
        let wanted: usize = chunk.iter().map(|iovec| iovec.iov_len).sum();
        // SAFETY: the iovecs come from a GuestSource or GuestSink and point to memory that lives
        // for its 'a, readable for the one and writable for the other. It is only ever used as
        // volatile bytes (or borrowed for 'a, from_slice), and the kernel checks each address.
        // There are at most MAX_IOVECS.
        let result = unsafe {
            call(
                file.as_raw_fd(),
                chunk.as_ptr(),
                chunk.len() as libc::c_int,
                position,
            )
        };
        let Ok(count) = usize::try_from(result) else {
            let error = io::Error::last_os_error();
            return if done > 0 { Ok(done) } else { Err(error) };
        };
        done += count;
        if count < wanted {
            break;
        }
    }
    Ok(done)
}
