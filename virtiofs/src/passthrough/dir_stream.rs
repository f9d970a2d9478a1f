//! The host's entries of an open directory, read in batches that outlive a request.

use std::ffi::CStr;
use std::io::Result;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::SeekFrom;

use super::sys;
use crate::fuse::filesystem::errno;

/// Bytes of host entries read at once: about a thousand names.
const BUFFER: usize = 32 << 10;
/// Directories of a session that keep such a buffer from one request to the next; the others read
/// the rest of theirs anew.
const KEPT: usize = 64;
/// Offset of the name in `struct linux_dirent64` (getdents64(2)): 8 bytes inode number, 8 bytes
/// next position, 2 bytes record length, 1 byte type.
const NAME: usize = 19;

/// `struct linux_dirent64`: one record of getdents64(2).
#[derive(Debug, Clone, Copy)]
pub(super) struct HostDirent<'a> {
    /// Inode number on the host.
    pub(super) ino: u64,
    /// Position of the entry that follows.
    pub(super) next: u64,
    /// `DT_*` file type on the host.
    pub(super) kind: u8,
    pub(super) name: &'a CStr,
    /// Bytes of the record.
    len: usize,
}

impl<'a> HostDirent<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (ino, rest) = bytes.split_first_chunk::<8>()?;
        let (next, rest) = rest.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_ne_bytes(*len));
        Some(Self {
            ino: u64::from_ne_bytes(*ino),
            next: u64::from_ne_bytes(*next),
            kind: *rest.first()?,
            name: CStr::from_bytes_until_nul(bytes.get(NAME..len)?).ok()?,
            len,
        })
    }

    /// Whether this is the entry of the directory itself or of its parent.
    pub(super) fn is_dot_or_dot_dot(&self) -> bool {
        matches!(self.name.to_bytes(), b"." | b"..")
    }

    /// What [`DirStream::advance`] needs of an entry.
    pub(super) fn end(&self) -> EntryEnd {
        EntryEnd {
            next: self.next,
            len: self.len,
        }
    }
}

/// Where an entry ends: in the directory, and in the buffer.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryEnd {
    next: u64,
    len: usize,
}

/// The buffers that the open directories of a session keep.
#[derive(Debug, Default)]
pub(super) struct Buffers(AtomicUsize);

/// One kept buffer, given back when dropped.
#[derive(Debug)]
struct Kept(Arc<Buffers>);

impl Kept {
    fn new(buffers: &Arc<Buffers>) -> Option<Self> {
        let kept = buffers.0.fetch_add(1, Ordering::Relaxed);
        // Undone by dropping it.
        let new = Self(Arc::clone(buffers));
        (kept < KEPT).then_some(new)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Host entries that were read but not yet sent, and the position that they begin at.
#[derive(Debug, Default)]
pub(super) struct DirStream {
    buffer: Vec<u8>,
    /// The part of `buffer` that is still to be sent.
    start: usize,
    end: usize,
    /// The position of the entry at `start`.
    position: u64,
    /// The position of the host's open directory, if known.
    host: u64,
    /// The right to keep `buffer` after a request.
    kept: Option<Kept>,
}

impl DirStream {
    /// Continues at `offset`: 0, or an entry's `next`. At 0, and anywhere but where the last
    /// request ended, the directory is read anew.
    pub(super) fn seek(&mut self, offset: u64) {
        if offset != self.position || offset == 0 {
            (self.start, self.end, self.position) = (0, 0, offset);
        }
    }

    /// Returns the next entry of `dir`, which stays the next one until [`advance`](Self::advance);
    /// `None` at the end. Fails with `EIO` if the host's record is malformed.
    pub(super) fn peek(&mut self, dir: impl AsFd) -> Result<Option<HostDirent<'_>>> {
        if self.start == self.end && !self.fill(dir)? {
            return Ok(None);
        }
        let bytes = self.buffer.get(self.start..self.end).unwrap_or_default();
        match HostDirent::parse(bytes) {
            Some(entry) => Ok(Some(entry)),
            None => Err(errno(libc::EIO)),
        }
    }

    /// Reads the next batch; returns whether there is one.
    fn fill(&mut self, dir: impl AsFd) -> Result<bool> {
        if self.host != self.position || self.position == 0 {
            rustix::fs::seek(&dir, SeekFrom::Start(self.position))?;
        }
        self.buffer.resize(BUFFER, 0);
        (self.start, self.end) = (0, 0);
        self.end = sys::getdents(&dir, &mut self.buffer)?;
        if self.end == 0 {
            self.host = self.position;
            return Ok(false);
        }
        self.host = u64::MAX;
        Ok(true)
    }

    /// Ends a request: keeps what is still to be sent if there is room among `buffers`.
    pub(super) fn settle(&mut self, buffers: &Arc<Buffers>) {
        if self.start < self.end && self.kept.is_none() {
            self.kept = Kept::new(buffers);
        }
        if self.start == self.end || self.kept.is_none() {
            (self.buffer, self.kept) = (Vec::new(), None);
            (self.start, self.end) = (0, 0);
        }
    }

    /// Continues behind the entry that ends there.
    pub(super) fn advance(&mut self, entry: EntryEnd) {
        self.position = entry.next;
        self.start += entry.len;
        if self.start >= self.end {
            self.start = self.end;
            // Everything that the host gave is sent: both are at the same position.
            self.host = self.position;
        }
    }
}
