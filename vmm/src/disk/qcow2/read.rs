//! Reading an image that does not change.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use super::compressed::{NEXT, Unpacker};
use super::header::Header;
use super::l2_tables::L2Tables;
use super::table::{COMPRESSED, OFFSET, ZERO, check_tables_differ, damaged, read_table};
use crate::disk::error::ImageError;
use crate::disk::mapping::Mapping;
use crate::threads::Threads;

/// The tables of an image.
#[derive(Debug)]
pub(in crate::disk) struct Qcow2 {
    len: u64,
    cluster_bits: u32,
    unpacker: Unpacker,
    l1: Box<[u64]>,
    l2: L2Tables,
}

impl Qcow2 {
    pub(in crate::disk) fn open(file: &File) -> Result<Qcow2, ImageError> {
        let header = Header::read(file)?;
        let l1 = read_table(file, header.l1_offset, header.l1_len() as usize)?;
        check_tables_differ(l1.iter().map(|entry| entry & OFFSET))?;
        Ok(Qcow2 {
            len: header.len,
            cluster_bits: header.cluster_bits,
            unpacker: Unpacker::new(header.cluster_bits, header.zstd),
            l2: L2Tables::new(l1.len(), header.cluster_bits),
            l1,
        })
    }

    pub(in crate::disk) fn len(&self) -> u64 {
        self.len
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The second-level table for a cluster, if there is one, and the cluster's index in it.
    fn entry(&self, file: &File, cluster: u64) -> io::Result<u64> {
        let l2_bits = self.cluster_bits - 3;
        let index = (cluster >> l2_bits) as usize;
        let offset = *self.l1.get(index).ok_or(ErrorKind::UnexpectedEof)? & OFFSET;
        if offset == 0 {
            return Ok(0);
        }
        if offset & (self.cluster() - 1) != 0 {
            return Err(damaged("a table's offset is not aligned"));
        }
        let within = (cluster & ((1 << l2_bits) - 1)) as usize;
        self.l2.entry(file, index, offset, within)
    }

    /// Number of clusters from `cluster` on whose second-level table does not exist, up to the end of
    /// that table.
    fn without_table(&self, cluster: u64) -> u64 {
        let l2_bits = self.cluster_bits - 3;
        let first = self.l1.get((cluster >> l2_bits) as usize);
        if first.is_some_and(|entry| entry & OFFSET == 0) {
            (1 << l2_bits) - (cluster & ((1 << l2_bits) - 1))
        } else {
            0
        }
    }

    /// The most bytes that one byte of a compressed cluster can stand for.
    pub(in crate::disk) fn largest_ratio(&self) -> u64 {
        self.unpacker.largest_ratio()
    }

    /// The place of `offset`, and for how many bytes it holds; the range is in the disk.
    pub(in crate::disk) fn map(
        &self,
        file: &File,
        offset: u64,
        len: u64,
    ) -> io::Result<(Mapping, u64)> {
        let size = self.cluster();
        let cluster = offset >> self.cluster_bits;
        let within = offset & (size - 1);
        let first = self.entry(file, cluster)?;
        let mut count = size - within;
        if first & COMPRESSED != 0 {
            let place = Mapping::Compressed {
                entry: first,
                within,
            };
            return Ok((place, count.min(len)));
        }
        let base = self.host_offset(first)?;
        // Neighbours in the disk are neighbours in the file, most of the time.
        let mut next = cluster + 1;
        while count < len {
            let absent = self.without_table(next);
            if base.is_none() && absent > 0 {
                count += absent * size;
                next += absent;
                continue;
            }
            let entry = self.entry(file, next)?;
            if entry & COMPRESSED != 0 {
                break;
            }
            let expected = base.map(|base| base + (next - cluster) * size);
            if self.host_offset(entry)? != expected {
                break;
            }
            count += size;
            next += 1;
        }
        let place = base.map_or(Mapping::Zero, |base| Mapping::File(base + within));
        Ok((place, count.min(len)))
    }

    /// Where the cluster of an entry is; `None` if it is zeros.
    fn host_offset(&self, entry: u64) -> io::Result<Option<u64>> {
        let offset = entry & OFFSET;
        if entry & ZERO != 0 || offset == 0 {
            return Ok(None);
        }
        if offset & (self.cluster() - 1) != 0 {
            return Err(damaged("a cluster's offset is not aligned"));
        }
        Ok(Some(offset))
    }

    /// The unpacked cluster of a compressed entry.
    pub(in crate::disk) fn unpacked(&self, file: &File, entry: u64) -> io::Result<Arc<[u8]>> {
        self.unpacker.unpacked(file, entry)
    }

    /// Allows threads that unpack what will be read soon.
    pub(in crate::disk) fn allow_help(&self, threads: Threads, file: Arc<File>) {
        self.unpacker.allow_help(threads, file);
    }

    /// Whether such threads are at work: only an image of which something was unpacked has them.
    pub(in crate::disk) fn has_help(&self) -> bool {
        self.unpacker.has_help()
    }

    /// Queues the compressed clusters in `range` of the disk for them. Returns false if the queue is full.
    pub(in crate::disk) fn unpack_ahead(&self, file: &File, range: Range<u64>) -> bool {
        let mut at = range.start;
        let end = range.end.min(self.len);
        while at < end {
            // The reader itself meets the error.
            let Ok((mapping, count)) = self.map(file, at, end - at) else {
                return false;
            };
            if let Mapping::Compressed { entry, .. } = mapping
                && !self.unpacker.want(entry)
            {
                return false;
            }
            at += count;
        }
        true
    }

    /// Lets them unpack what a reader of `range`, which was in order, reads next.
    pub(in crate::disk) fn has_read(&self, file: &File, range: Range<u64>) {
        let end = range.end;
        if self.unpacker.goes_on(range) {
            self.unpack_ahead(file, end..end.saturating_add(NEXT));
        }
    }
}
