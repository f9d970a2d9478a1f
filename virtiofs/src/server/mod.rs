//! Decodes FUSE requests, has a [`FileSystem`] answer them, and encodes the replies.

mod dispatch;
mod request;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_queue::DescriptorChain;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::{ByteValued, GuestMemory};

use crate::descriptor::{self, ChainError, Segments};
use crate::fuse::abi::{self, InHeader, OutHeader, init, opcode};
use crate::fuse::filesystem::{Context, FileSystem, errno};
use crate::traffic::Traffic;
use request::Args;

/// The largest READ and WRITE in bytes: 256 pages of 4 KiB, `FUSE_MAX_MAX_PAGES` of the Linux
/// guest driver (before 6.13 its fixed limit).
pub const MAX_TRANSFER: u32 = 1 << 20;
/// The same in pages, for INIT.
const MAX_PAGES: u16 = 256;
/// The largest request in bytes without the data of a WRITE: a BATCH_FORGET that fills the
/// guest's largest buffer.
const MAX_REQUEST: usize = MAX_TRANSFER as usize + 4096;
/// Requests that a guest may have in flight in the background (readahead, asynchronous I/O)
/// before it waits; far above the guest's default of 12, so that the queue's size decides.
const MAX_BACKGROUND: u16 = 1024;

const IN_HEADER: usize = size_of::<InHeader>();
const OUT_HEADER: usize = size_of::<OutHeader>();

/// A request that has no reply because its descriptor chain is invalid; the device shall stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The buffers cannot be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The header states a length that is shorter than itself or longer than the buffers.
    #[error("a FUSE request states a length of {stated} bytes but has {have}")]
    Length {
        /// Length from the request's header.
        stated: u32,
        /// Bytes in the chain.
        have: usize,
    },
    /// The request is longer than any valid one; bytes.
    #[error("a FUSE request has {0} bytes apart from file data; no valid request has so many")]
    TooLarge(usize),
}

thread_local! {
    // A request and a reply buffer per serving thread, so that no request allocates.
    static SCRATCH: RefCell<(Vec<u8>, Vec<u8>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// A FUSE server: one session with one guest, used from any number of threads.
#[derive(Debug)]
pub struct Server<F: FileSystem> {
    fs: F,
    /// Negotiated INIT flags; 0 before INIT.
    flags: AtomicU64,
    /// Bytes of file data that were read and written.
    traffic: Traffic,
    #[cfg(any(test, feature = "unchecked-names"))]
    unchecked_names: bool,
}

impl<F: FileSystem> Server<F> {
    /// Creates a server for `fs` that expects the guest's INIT.
    pub fn new(fs: F) -> Self {
        Self {
            fs,
            flags: AtomicU64::new(0),
            traffic: Traffic::default(),
            #[cfg(any(test, feature = "unchecked-names"))]
            unchecked_names: false,
        }
    }

    /// Creates a server that does not check names. For the test that Landlock alone closes the
    /// share.
    #[cfg(any(test, feature = "unchecked-names"))]
    #[doc(hidden)]
    pub fn with_unchecked_names(fs: F) -> Self {
        Self {
            unchecked_names: true,
            ..Self::new(fs)
        }
    }

    /// Returns the file system that answers the requests.
    pub fn file_system(&self) -> &F {
        &self.fs
    }

    /// Returns how much of its files the guest has read and written.
    pub fn traffic(&self) -> Traffic {
        self.traffic.clone()
    }

    /// Handles one request. Returns the number of bytes written to the chain's writable part,
    /// 0 for requests that have no reply (FORGET, BATCH_FORGET, INTERRUPT).
    ///
    /// # Errors
    /// If the chain is not a FUSE request at all. A request that the file system refuses has a
    /// reply and is no error.
    pub fn handle<M, D>(&self, mem: &M, chain: DescriptorChain<D>) -> Result<u32, ServerError>
    where
        M: GuestMemory,
        D: Deref,
        D::Target: GuestMemory,
    {
        let (readable, writable) = descriptor::split(mem, chain)?;
        let mut header = InHeader::default();
        readable.read(0, header.as_mut_slice())?;
        let stated = header.len as usize;
        if stated < IN_HEADER || stated > readable.len() {
            return Err(ServerError::Length {
                stated: header.len,
                have: readable.len(),
            });
        }
        let no_reply = matches!(
            header.opcode,
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT
        );
        if !no_reply && writable.len() < OUT_HEADER {
            return Err(ChainError::Short {
                have: writable.len(),
                need: OUT_HEADER,
            }
            .into());
        }
        let ctx = Context {
            uid: header.uid,
            gid: header.gid,
        };
        match header.opcode {
            opcode::READ => self.read(ctx, &header, &readable, &writable),
            opcode::WRITE => self.write(ctx, &header, &readable, &writable),
            _ if no_reply => self.handle_buffered(ctx, &header, &readable, None),
            _ => self.handle_buffered(ctx, &header, &readable, Some(&writable)),
        }
    }

    /// Handles any request but READ and WRITE: copied out of the guest, answered, and the reply
    /// copied back, unless there is none (`writable` is `None`).
    fn handle_buffered<B: BitmapSlice>(
        &self,
        ctx: Context,
        header: &InHeader,
        readable: &Segments<'_, B>,
        writable: Option<&Segments<'_, B>>,
    ) -> Result<u32, ServerError> {
        let len = header.len as usize - IN_HEADER;
        if len > MAX_REQUEST {
            return Err(ServerError::TooLarge(len));
        }
        SCRATCH.with_borrow_mut(|(body, reply)| {
            body.clear();
            body.resize(len, 0);
            readable.read(IN_HEADER, body)?;
            reply.clear();
            reply.resize(OUT_HEADER, 0);
            let capacity = writable.map_or(0, |writable| writable.len() - OUT_HEADER);
            let result = self.dispatch(ctx, header, &mut self.args(body), capacity, reply);
            let Some(writable) = writable else {
                return Ok(0);
            };
            let error = match result {
                Ok(()) => 0,
                Err(error) => {
                    reply.truncate(OUT_HEADER);
                    -error_number(&error)
                }
            };
            // A reply is far smaller than 4 GiB.
            let out = OutHeader {
                len: reply.len() as u32,
                error,
                unique: header.unique,
            };
            if let Some(head) = reply.get_mut(..OUT_HEADER) {
                head.copy_from_slice(out.as_slice());
            }
            writable.write(0, reply)?;
            Ok(out.len)
        })
    }

    fn args<'a>(&self, body: &'a [u8]) -> Args<'a> {
        #[cfg(any(test, feature = "unchecked-names"))]
        if self.unchecked_names {
            return Args::unchecked(body);
        }
        Args::new(body)
    }

    /// READ: from the file into the guest's pages, without a copy.
    fn read<B: BitmapSlice>(
        &self,
        ctx: Context,
        header: &InHeader,
        readable: &Segments<'_, B>,
        writable: &Segments<'_, B>,
    ) -> Result<u32, ServerError> {
        let mut args = abi::ReadIn::default();
        readable.read(IN_HEADER, args.as_mut_slice())?;
        let capacity = writable.len() - OUT_HEADER;
        let size = (args.size.min(MAX_TRANSFER) as usize).min(capacity);
        let sink = writable.sink(OUT_HEADER, size)?;
        let result = self
            .fs
            .read(ctx, header.nodeid, args.fh, args.offset, &sink);
        let count = result.as_ref().map_or(0, |count| (*count).min(size));
        writable.mark_dirty(OUT_HEADER, count);
        self.traffic.add_to_guest(count);
        write_header(header, writable, &result.map(|_| ()), count)
    }

    /// WRITE: from the guest's pages into the file, without a copy.
    fn write<B: BitmapSlice>(
        &self,
        ctx: Context,
        header: &InHeader,
        readable: &Segments<'_, B>,
        writable: &Segments<'_, B>,
    ) -> Result<u32, ServerError> {
        let mut args = abi::WriteIn::default();
        readable.read(IN_HEADER, args.as_mut_slice())?;
        let start = IN_HEADER + size_of::<abi::WriteIn>();
        let have = (header.len as usize).saturating_sub(start);
        let size = args.size as usize;
        let result = if size > have || args.size > MAX_TRANSFER {
            Err(errno(libc::EINVAL))
        } else {
            let source = readable.source(start, size)?;
            let kill = args.write_flags & abi::WRITE_KILL_SUIDGID != 0;
            self.fs
                .write(ctx, header.nodeid, args.fh, args.offset, &source, kill)
        };
        let out = match &result {
            // At most `size`, which is a u32.
            Ok(count) => abi::WriteOut {
                size: *count as u32,
                padding: 0,
            },
            Err(_) => return write_header(header, writable, &result.map(|_| ()), 0),
        };
        self.traffic.add_from_guest(out.size as usize);
        writable.write(OUT_HEADER, out.as_slice())?;
        write_header(header, writable, &Ok(()), size_of::<abi::WriteOut>())
    }

    /// INIT: agrees on version, flags and limits.
    fn init(&self, args: &mut Args<'_>, reply: &mut Vec<u8>) -> io::Result<()> {
        let start: abi::InitIn = args.take()?;
        if start.major != abi::KERNEL_VERSION {
            if start.major < abi::KERNEL_VERSION {
                return Err(errno(libc::EPROTO));
            }
            // The guest starts again with the major version of this reply.
            let out = abi::InitOut {
                major: abi::KERNEL_VERSION,
                minor: abi::KERNEL_MINOR_VERSION,
                ..Default::default()
            };
            reply.extend_from_slice(out.as_slice());
            return Ok(());
        }
        if start.minor < abi::MIN_KERNEL_MINOR_VERSION {
            return Err(errno(libc::EPROTO));
        }
        let mut offered = u64::from(start.flags);
        if offered & init::INIT_EXT != 0 {
            let more: abi::InitExtIn = args.take()?;
            offered |= u64::from(more.flags2) << 32;
        }
        // Features of the server itself, independent of the file system.
        let own = init::ASYNC_READ
            | init::BIG_WRITES
            | init::PARALLEL_DIROPS
            | init::MAX_PAGES
            | init::SETXATTR_EXT
            | init::INIT_EXT;
        let flags = offered & (own | self.fs.init(offered)?);
        self.flags.store(flags, Ordering::Release);
        let out = abi::InitOut {
            major: abi::KERNEL_VERSION,
            minor: abi::KERNEL_MINOR_VERSION,
            max_readahead: start.max_readahead,
            flags: flags as u32,
            max_background: MAX_BACKGROUND,
            congestion_threshold: MAX_BACKGROUND / 4 * 3,
            max_write: MAX_TRANSFER,
            time_gran: 1,
            max_pages: MAX_PAGES,
            map_alignment: 0,
            flags2: (flags >> 32) as u32,
            unused: [0; 7],
        };
        reply.extend_from_slice(out.as_slice());
        Ok(())
    }

    /// Whether this INIT flag was negotiated.
    fn negotiated(&self, flag: u64) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }
}

/// Writes the header of a reply whose `count` bytes are in guest memory already.
fn write_header<B: BitmapSlice>(
    header: &InHeader,
    writable: &Segments<'_, B>,
    result: &io::Result<()>,
    count: usize,
) -> Result<u32, ServerError> {
    let (error, count) = match result {
        Ok(()) => (0, count),
        Err(error) => (-error_number(error), 0),
    };
    // READ is capped at MAX_TRANSFER.
    let out = OutHeader {
        len: (OUT_HEADER + count) as u32,
        error,
        unique: header.unique,
    };
    writable.write(0, out.as_slice())?;
    Ok(out.len)
}

/// Returns the errno to send: positive, and within the range that the FUSE client accepts in a
/// reply (-511..=0, Linux `fs/fuse/dev.c`).
fn error_number(error: &io::Error) -> i32 {
    match error.raw_os_error() {
        Some(number @ 1..=511) => number,
        _ => libc::EIO,
    }
}
