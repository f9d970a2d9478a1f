//! Reading directories.

use std::ffi::CStr;
use std::io::Result;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, SeekFrom};

use super::table::{Inode, OpenFile};
use super::{PassthroughFs, sys};
use crate::fuse::abi::fopen;
use crate::fuse::filesystem::{DirBuffer, DirEntry, Opened, errno};

/// Bytes of host entries read at once: about a thousand names.
const BUFFER: usize = 32 << 10;
/// Offset of the name in `struct linux_dirent64` (getdents64(2)): 8 bytes inode number, 8 bytes
/// next position, 2 bytes record length, 1 byte type.
const NAME: usize = 19;

/// Host entries that were read but not yet sent.
#[derive(Debug, Default)]
pub(super) struct Reading {
    buffer: Vec<u8>,
    /// The part of `buffer` that is still to be sent.
    start: usize,
    end: usize,
    /// The position that `start` stands for.
    position: u64,
    /// The position of the host's open directory.
    host: u64,
}

/// One record of getdents64.
struct Record<'a> {
    ino: u64,
    next: u64,
    kind: u8,
    name: &'a CStr,
    len: usize,
}

impl<'a> Record<'a> {
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
}

impl PassthroughFs {
    pub(super) fn open_directory(&self, inode: Arc<Inode>) -> Result<Opened> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let file = self.with_access(&[&inode], || {
            self.proc.reopen(&inode.fd, flags, Mode::empty())
        })?;
        let mut flags = 0;
        if self.config.keep_cache && !self.config.timeout.is_zero() {
            flags |= fopen::CACHE_DIR | fopen::KEEP_CACHE;
        }
        Ok(Opened {
            handle: self.handles.add(file, inode),
            flags,
        })
    }

    pub(super) fn read_directory(
        &self,
        open: &OpenFile,
        offset: u64,
        out: &mut DirBuffer<'_>,
        plus: bool,
    ) -> Result<()> {
        if !open.inode.is_dir() {
            return Err(errno(libc::ENOTDIR));
        }
        let dir = &open.file;
        let mut reading = open.reading();
        let reading = &mut *reading;
        if offset != reading.position || offset == 0 {
            (reading.start, reading.end, reading.position) = (0, 0, offset);
        }
        let dev = open.inode.dev();
        let mut sent = false;
        loop {
            if reading.start == reading.end {
                if reading.host != reading.position || reading.position == 0 {
                    rustix::fs::seek(dir, SeekFrom::Start(reading.position))?;
                }
                reading.buffer.resize(BUFFER, 0);
                (reading.start, reading.end) = (0, 0);
                reading.end = sys::getdents(dir, &mut reading.buffer)?;
                if reading.end == 0 {
                    reading.host = reading.position;
                    return Ok(());
                }
                reading.host = u64::MAX;
            }
            let bytes = reading
                .buffer
                .get(reading.start..reading.end)
                .unwrap_or_default();
            let Some(record) = Record::parse(bytes) else {
                return Err(errno(libc::EIO));
            };
            let name = record.name.to_bytes();
            if !out.fits(name.len()) {
                return if sent {
                    Ok(())
                } else {
                    Err(errno(libc::EINVAL))
                };
            }
            let dots = matches!(name, b"." | b"..");
            // What is above the root is nobody's business.
            let ino = if dots && open.inode.id == self.inodes.root().id {
                self.inodes.root().ino()
            } else {
                record.ino
            };
            let mut entry = DirEntry {
                ino: self.guest_ino(dev, ino),
                next: record.next,
                kind: record.kind.into(),
                name,
            };
            if plus && !dots {
                // Not found: it is gone by now, or not for us; the guest will ask itself.
                let found = self.find(&open.inode, record.name).ok();
                if let Some(found) = found {
                    entry.ino = found.attr.ino;
                    entry.kind = found.attr.mode >> 12 & 0xf;
                }
                out.push(&entry, found);
            } else {
                if record.kind == libc::DT_REG {
                    entry.kind = match self.entry_special(dir, record.name) {
                        Some(None) => entry.kind,
                        Some(Some(special)) => special.type_and_rdev().0 >> 12,
                        None => libc::DT_UNKNOWN.into(),
                    };
                }
                out.push(&entry, None);
            }
            sent = true;
            reading.position = record.next;
            reading.start += record.len;
            if reading.start >= reading.end {
                reading.start = reading.end;
                // All that the host gave is sent: both stand at the same place.
                reading.host = reading.position;
            }
        }
    }
}
