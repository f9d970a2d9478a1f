//! The tables of an image that is written, and how they reach the file.
//!
//! A table is never overwritten in the file. A commit writes everything that has changed to
//! clusters that the image in the file does not use, waits until that is on the disk, and then
//! writes 36 bytes of the header, which refer to all of it: at each instant the file holds a
//! whole image, without errors and without leaks.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
#[cfg(test)]
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;

use super::compressed::Unpacker;
use super::header::{Header, LARGEST_L1};
use super::parts::Parts;
use super::refcounts::{Home, Refcounts};
use super::table::{COMPRESSED, COPIED, OFFSET, ZERO, check_tables_differ, damaged, read_table};
use crate::disk::error::ImageError;
use crate::disk::file_io::punch_or_write;

/// Tables that are kept although the file has them as they are, in bytes.
const KEPT_TABLES: u64 = 64 << 20;

/// Where a cluster has its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cluster {
    /// At this offset of the file, and nowhere else.
    Own(u64),
    /// At this offset of the file, but it may not be written there.
    Shared(u64),
    /// Zeros, without a cluster in the file.
    Unallocated,
    /// Zeros, with this offset of the file reserved for them.
    Kept(u64),
    /// Compressed, with this entry of the table.
    Compressed(u64),
}

/// A second-level table.
#[derive(Debug)]
struct L2Table {
    entries: Box<[u64]>,
    home: Home,
}

/// All tables of an image that is written.
#[derive(Debug)]
pub(super) struct Metadata {
    header: Header,
    /// Home of the first-level table.
    l1: Home,
    /// Offsets of the second-level tables that have not been read.
    offsets: Vec<u64>,
    tables: Vec<Option<L2Table>>,
    /// Numbers of the tables that were read, the oldest first.
    read: VecDeque<usize>,
    parts: Parts,
    refcounts: Refcounts,
    pub(super) unpacker: Unpacker,
    /// A commit failed, and it is unknown what the file has.
    broken: bool,
    /// Writes of a commit that succeed before all fail.
    #[cfg(test)]
    pub(super) fuse: std::sync::atomic::AtomicU32,
}

impl Metadata {
    /// Reads the image in `file`.
    pub(super) fn read(file: &File) -> Result<Metadata, ImageError> {
        let header = Header::read(file)?;
        header.check_writable()?;
        let refcounts = Refcounts::read(file, &header)?;
        let cluster = 1_u64 << header.cluster_bits;
        let entries = header.l1_entries as usize;
        let l1 = Home {
            offset: header.l1_offset,
            clusters: (header.l1_entries * 8).div_ceil(cluster),
            ..Home::default()
        };
        let in_use_once = |offset: u64| offset & (cluster - 1) == 0 && refcounts.count(offset) == 1;
        if !(0..l1.clusters).all(|at| in_use_once(l1.offset + at * cluster)) {
            return Err(ImageError::NeedsRepair("its first table counts as free"));
        }
        let l1_entries = read_table(file, header.l1_offset, entries)?;
        let offsets: Vec<u64> = l1_entries.iter().map(|entry| entry & OFFSET).collect();
        if !offsets
            .iter()
            .all(|offset| *offset == 0 || in_use_once(*offset))
        {
            return Err(ImageError::NeedsRepair(
                "its tables are in use by something else as well",
            ));
        }
        check_tables_differ(offsets.iter().copied())?;
        let parts = Parts::new(header.cluster_bits, &l1, &offsets, &refcounts);
        Ok(Metadata {
            parts,
            unpacker: Unpacker::new(header.cluster_bits, header.zstd),
            tables: offsets.iter().map(|_| None).collect(),
            read: VecDeque::new(),
            l1,
            offsets,
            refcounts,
            header,
            broken: false,
            #[cfg(test)]
            fuse: u32::MAX.into(),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.header.len
    }

    /// Makes the disk `len` bytes long; the new part is zeros.
    pub(super) fn grow(&mut self, len: u64) -> Result<(), ImageError> {
        self.header.len = self.header.len.max(len);
        let entries = self.header.l1_len();
        if entries > LARGEST_L1 / 8 {
            return Err(ImageError::NotWritable(format!(
                "clusters that are too small for {len} bytes"
            )));
        }
        let entries = (entries as usize).max(self.offsets.len());
        self.offsets.resize(entries, 0);
        self.tables.resize_with(entries, || None);
        self.l1.dirty = true;
        Ok(())
    }

    pub(super) fn cluster(&self) -> u64 {
        1 << self.header.cluster_bits
    }

    /// Number of a cluster of the disk: of its table, and in that.
    fn split(&self, cluster: u64) -> (usize, usize) {
        let bits = self.header.cluster_bits - 3;
        let within = cluster & ((1 << bits) - 1);
        ((cluster >> bits) as usize, within as usize)
    }

    /// Whether the table for a cluster is in memory.
    pub(super) fn has_table(&self, cluster: u64) -> bool {
        let (table, _) = self.split(cluster);
        self.tables.get(table).is_some_and(Option::is_some)
            || self.offsets.get(table).is_none_or(|offset| *offset == 0)
    }

    /// Reads the table for a cluster.
    pub(super) fn load(&mut self, file: &File, cluster: u64) -> io::Result<()> {
        if self.has_table(cluster) {
            return Ok(());
        }
        let (table, _) = self.split(cluster);
        let offset = self.offsets[table];
        let entries = read_table(file, offset, (self.cluster() / 8) as usize)?;
        self.parts.check(table, &entries, &self.unpacker)?;
        let home = Home {
            offset,
            clusters: 1,
            ..Home::default()
        };
        self.tables[table] = Some(L2Table { entries, home });
        self.read.push_back(table);
        self.forget_tables(table);
        Ok(())
    }

    /// Drops tables that the file has as they are, but for `needed`, where there are too many.
    fn forget_tables(&mut self, needed: usize) {
        let most = (KEPT_TABLES >> self.header.cluster_bits).max(2) as usize;
        // Each of those that were read is looked at once at most.
        for _ in 0..self.read.len() {
            if self.read.len() <= most {
                break;
            }
            let Some(oldest) = self.read.pop_front() else {
                break;
            };
            let dirty =
                |table: &Option<L2Table>| table.as_ref().is_some_and(|table| table.home.dirty);
            if oldest == needed || dirty(&self.tables[oldest]) {
                self.read.push_back(oldest);
            } else {
                self.tables[oldest] = None;
            }
        }
    }

    /// Where a cluster of the disk is. Its table must be in memory.
    pub(super) fn find(&self, cluster: u64) -> io::Result<Cluster> {
        let (table, within) = self.split(cluster);
        let entry = match self.tables.get(table) {
            Some(Some(table)) => table.entries[within],
            _ => 0,
        };
        if entry & COMPRESSED != 0 {
            return Ok(Cluster::Compressed(entry));
        }
        let offset = entry & OFFSET;
        if offset & (self.cluster() - 1) != 0 {
            return Err(damaged("a cluster's offset is not aligned"));
        }
        let zero = entry & ZERO != 0;
        if offset == 0 {
            return Ok(Cluster::Unallocated);
        }
        match self.refcounts.count(offset) {
            0 => Err(damaged("a cluster in use counts as free")),
            1 if entry & COPIED != 0 && zero => Ok(Cluster::Kept(offset)),
            1 if entry & COPIED != 0 => Ok(Cluster::Own(offset)),
            // Whose it is besides does not matter: it is left alone.
            _ if zero => Ok(Cluster::Unallocated),
            _ => Ok(Cluster::Shared(offset)),
        }
    }

    fn set(&mut self, cluster: u64, entry: u64) {
        let (index, within) = self.split(cluster);
        let size = (self.cluster() / 8) as usize;
        let table = self.tables[index].get_or_insert_with(|| L2Table {
            entries: vec![0; size].into(),
            home: Home::default(),
        });
        table.entries[within] = entry;
        table.home.dirty = true;
    }

    /// Gives the clusters from `first` up to `end` places of their own, with the data they have
    /// now. Stops early, but not before the first one. Their tables must be in memory.
    pub(super) fn own(&mut self, file: &File, first: u64, end: u64) -> io::Result<()> {
        match self.find(first)? {
            Cluster::Own(_) => Ok(()),
            Cluster::Kept(offset) => {
                punch_or_write(file, offset, self.cluster())?;
                self.set(first, offset | COPIED);
                Ok(())
            }
            Cluster::Unallocated => {
                let mut count = 1;
                while first + count < end && self.is_unallocated(first + count) {
                    count += 1;
                }
                let (offset, count, stale) = self.refcounts.take_data(count);
                if stale && let Err(error) = punch_or_write(file, offset, count * self.cluster()) {
                    for at in 0..count {
                        self.refcounts.release(offset + at * self.cluster())?;
                    }
                    return Err(error);
                }
                for at in 0..count {
                    let old = self.reference(first + at);
                    self.set(first + at, (offset + at * self.cluster()) | COPIED);
                    self.drop_reference(old)?;
                }
                Ok(())
            }
            Cluster::Shared(old) => {
                let mut data = vec![0; self.cluster() as usize];
                crate::disk::file_io::read_at(file, &mut data, old)?;
                self.replace(file, first, &data)
            }
            Cluster::Compressed(entry) => {
                let data = self.unpacker.unpacked(file, entry)?;
                self.replace(file, first, &data)
            }
        }
    }

    fn is_unallocated(&self, cluster: u64) -> bool {
        self.has_table(cluster) && matches!(self.find(cluster), Ok(Cluster::Unallocated))
    }

    /// Gives a cluster a new place with `data`.
    fn replace(&mut self, file: &File, cluster: u64, data: &[u8]) -> io::Result<()> {
        let (offset, _, _) = self.refcounts.take_data(1);
        if let Err(error) = file.write_all_at(data, offset) {
            self.refcounts.release(offset)?;
            return Err(error);
        }
        let old = self.reference(cluster);
        self.set(cluster, offset | COPIED);
        self.drop_reference(old)
    }

    /// Makes a whole cluster zeros by its entry, and releases what it had. Only version 3 can;
    /// `false` otherwise.
    pub(super) fn forget(&mut self, file: &File, cluster: u64) -> io::Result<bool> {
        if self.header.version < 3 {
            return Ok(false);
        }
        self.load(file, cluster)?;
        let old = self.reference(cluster);
        self.set(cluster, ZERO);
        self.drop_reference(old)?;
        Ok(true)
    }

    /// The entry of a cluster as it is.
    fn reference(&self, cluster: u64) -> u64 {
        let (table, within) = self.split(cluster);
        let table = self.tables.get(table).and_then(Option::as_ref);
        table.map_or(0, |table| table.entries[within])
    }

    /// An entry is gone: its clusters have one user less.
    fn drop_reference(&mut self, entry: u64) -> io::Result<()> {
        if entry & COMPRESSED != 0 {
            let range = self.unpacker.range(entry);
            let bits = self.header.cluster_bits;
            for index in range.start >> bits..=(range.end - 1) >> bits {
                self.refcounts.release(index << bits)?;
            }
            return Ok(());
        }
        match entry & OFFSET {
            0 => Ok(()),
            offset => self.refcounts.release(offset),
        }
    }

    /// Whether the file lacks something.
    pub(super) fn dirty(&self) -> bool {
        let dirty = |table: &Option<L2Table>| table.as_ref().is_some_and(|table| table.home.dirty);
        self.l1.dirty || self.refcounts.dirty() || self.tables.iter().any(dirty)
    }

    /// Whether nothing may be written any more.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier flush failed; nothing more is written, to keep what is there",
            ));
        }
        Ok(())
    }

    /// Refuses writes from now on: it is unknown what the file has.
    pub(super) fn give_up(&mut self) {
        self.broken = true;
    }

    /// Commits: writes everything that has changed to the file. After an error the image in the file is the one of the
    /// last commit, and the next commit tries again.
    pub(super) fn commit(&mut self, file: &File) -> io::Result<()> {
        self.check()?;
        if !self.dirty() {
            return self.sync(file);
        }
        if let Err(error) = self.plan() {
            self.give_up();
            return Err(error);
        }
        let len = self.refcounts.file_len();
        if file.metadata()?.len() < len {
            file.set_len(len)?;
        }
        for table in self.tables.iter().flatten() {
            if table.home.dirty {
                self.put(file, &be(table.entries.iter().copied()), table.home.offset)?;
            }
        }
        if self.l1.dirty {
            let entries = self.offsets.iter().map(|offset| match offset {
                0 => 0,
                offset => offset | COPIED,
            });
            self.put(file, &be(entries), self.l1.offset)?;
        }
        for (offset, bytes) in self.refcounts.contents() {
            self.put(file, &bytes, offset)?;
        }
        self.sync(file)?;
        self.put(file, &self.roots(), Header::LIVE.start as u64)?;
        self.sync(file)?;
        self.l1.committed();
        for table in self.tables.iter_mut().flatten() {
            table.home.committed();
        }
        self.refcounts.committed();
        Ok(())
    }

    /// Gives everything that must be written a place.
    fn plan(&mut self) -> io::Result<()> {
        for (offset, table) in self.offsets.iter_mut().zip(&mut self.tables) {
            let Some(table) = table else { continue };
            if table.home.dirty {
                self.refcounts.move_home(&mut table.home, 1)?;
                *offset = table.home.offset;
                self.l1.dirty = true;
            }
        }
        if self.l1.dirty {
            let bytes = self.offsets.len() as u64 * 8;
            let clusters = bytes.div_ceil(self.cluster()).max(1);
            self.refcounts.move_home(&mut self.l1, clusters)?;
        }
        self.refcounts.settle()
    }

    /// The header's fields that refer to everything else ([`Header::LIVE`]).
    fn roots(&self) -> Vec<u8> {
        let table = &self.refcounts.table;
        let mut bytes = self.header.len.to_be_bytes().to_vec();
        bytes.extend(0_u32.to_be_bytes());
        bytes.extend((self.offsets.len() as u32).to_be_bytes());
        bytes.extend(self.l1.offset.to_be_bytes());
        bytes.extend(table.offset.to_be_bytes());
        bytes.extend((table.clusters as u32).to_be_bytes());
        bytes
    }

    fn put(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        #[cfg(test)]
        self.burn()?;
        file.write_all_at(bytes, offset)
    }

    /// After a failure it is unknown what the disk has; the kernel does not say it twice.
    fn sync(&mut self, file: &File) -> io::Result<()> {
        let synced = file.sync_data();
        if synced.is_err() {
            self.give_up();
        }
        synced
    }

    /// Fails once the fuse has burnt down.
    #[cfg(test)]
    fn burn(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering;
        match self.fuse.load(Ordering::Relaxed) {
            u32::MAX => Ok(()),
            0 => Err(ErrorKind::StorageFull.into()),
            left => {
                self.fuse.store(left - 1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

fn be(entries: impl Iterator<Item = u64>) -> Vec<u8> {
    entries.flat_map(u64::to_be_bytes).collect()
}
