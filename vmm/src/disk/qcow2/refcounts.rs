//! Reference counts of the clusters of an image that is written.
//!
//! All counts are in memory, two bytes for each cluster of the file. What is released is not
//! used again before the image on the disk does not refer to it any more.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::header::{Header, LARGEST_REFTABLE};
use super::table::{OFFSET, damaged, read_table};
use crate::disk::error::ImageError;

/// Free clusters that data leave alone: tables move at each commit, and need some.
const RESERVE: usize = 32;
/// Most clusters of a file that is written: 4 TiB of the usual 64 KiB, 128 MiB of counts.
const MOST_CLUSTERS: u64 = 1 << 26;

/// Most free clusters that are remembered, about 40 bytes each. Further ones stay unused until the
/// image is opened again.
const MOST_FREE: usize = 1 << 20;

/// A table or block, and where it is in the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Home {
    /// Offset in the file; 0: it has none yet.
    pub(super) offset: u64,
    /// Clusters.
    pub(super) clusters: u64,
    /// It differs from what is in the file.
    pub(super) dirty: bool,
    /// The image in the file does not refer to this place, so that it may be written.
    pub(super) fresh: bool,
}

impl Home {
    pub(super) fn committed(&mut self) {
        self.dirty = false;
        self.fresh = false;
    }
}

/// Reference counts of all clusters.
#[derive(Debug)]
pub(super) struct Refcounts {
    cluster_bits: u32,
    counts: Vec<u16>,
    /// Blocks of counts.
    pub(super) blocks: Vec<Home>,
    /// The table of blocks.
    pub(super) table: Home,
    /// Not in use, neither here nor by the image in the file.
    free: BTreeSet<u64>,
    /// Not in use here, but by the image in the file.
    released: Vec<u64>,
}

impl Refcounts {
    /// Reads all counts.
    pub(super) fn read(file: &File, header: &Header) -> Result<Refcounts, ImageError> {
        let bits = header.cluster_bits;
        let cluster = 1_u64 << bits;
        let bytes = header.reftable_clusters << bits;
        let offset = header.reftable_offset;
        if offset == 0 || offset & (cluster - 1) != 0 || !(1..=LARGEST_REFTABLE).contains(&bytes) {
            return Err(ImageError::Damaged(
                "its reference count table is misplaced",
            ));
        }
        let table = read_table(file, offset, (bytes / 8) as usize)?;
        let in_file = file.metadata()?.len().div_ceil(cluster);
        if in_file > MOST_CLUSTERS {
            return Err(ImageError::NotWritable(format!("{in_file} clusters")));
        }
        let mut this = Refcounts {
            cluster_bits: bits,
            counts: vec![0; usize::try_from(in_file).unwrap_or_default()],
            blocks: Vec::new(),
            table: Home {
                offset,
                clusters: header.reftable_clusters,
                ..Home::default()
            },
            free: BTreeSet::new(),
            released: Vec::new(),
        };
        let per_block = this.per_block();
        let mut block = vec![0; cluster as usize];
        for (index, entry) in table.iter().enumerate() {
            let offset = entry & OFFSET;
            this.blocks.push(Home {
                offset,
                clusters: 1,
                ..Home::default()
            });
            if offset == 0 {
                continue;
            }
            if offset & (cluster - 1) != 0 {
                return Err(ImageError::Damaged("a reference count block is misplaced"));
            }
            file.read_exact_at(&mut block, offset)?;
            for (at, count) in block.chunks_exact(2).enumerate() {
                let count = u16::from_be_bytes([count[0], count[1]]);
                match this.counts.get_mut(index * per_block + at) {
                    Some(slot) => *slot = count,
                    None if count == 0 => {}
                    None => return Err(ImageError::NeedsRepair("it uses clusters behind its end")),
                }
            }
        }
        while this.blocks.last().is_some_and(|block| block.offset == 0) {
            this.blocks.pop();
        }
        // Also what a killed writer has left at the end: it has contents, unlike what follows.
        let unused = |(index, count): (u64, &u16)| (*count == 0).then_some(index);
        let free = (0..).zip(&this.counts).filter_map(unused);
        this.free = free.take(MOST_FREE).collect();
        this.check_own()?;
        Ok(this)
    }

    /// The image's own parts must be in use once.
    fn check_own(&self) -> Result<(), ImageError> {
        let blocks = self.blocks.iter().filter(|block| block.offset != 0);
        let mut parts: Vec<u64> = blocks.map(|block| block.offset).collect();
        parts.extend(
            (0..self.table.clusters).map(|at| self.table.offset + (at << self.cluster_bits)),
        );
        parts.push(0);
        parts.sort_unstable();
        let twice = parts.windows(2).any(|pair| pair[0] == pair[1]);
        if twice || parts.iter().any(|part| self.count(*part) != 1) {
            return Err(ImageError::NeedsRepair("its reference counts are wrong"));
        }
        Ok(())
    }

    /// Counts in one block: a cluster of 16-bit numbers.
    fn per_block(&self) -> usize {
        1 << (self.cluster_bits - 1)
    }

    /// How often the cluster at `offset` is in use.
    pub(super) fn count(&self, offset: u64) -> u16 {
        let index = usize::try_from(offset >> self.cluster_bits).unwrap_or(usize::MAX);
        self.counts.get(index).copied().unwrap_or(0)
    }

    /// Bytes that the file must have.
    pub(super) fn file_len(&self) -> u64 {
        (self.counts.len() as u64) << self.cluster_bits
    }

    /// Whether anything has been taken or released since the last commit.
    pub(super) fn dirty(&self) -> bool {
        self.table.dirty
    }

    fn set(&mut self, index: u64, count: u16) {
        let index = index as usize;
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] = count;
        let block = index / self.per_block();
        self.grow_blocks();
        self.blocks[block].dirty = true;
        self.table.dirty = true;
    }

    fn grow_blocks(&mut self) {
        let needed = self.counts.len().div_ceil(self.per_block());
        while self.blocks.len() < needed {
            self.blocks.push(Home {
                dirty: true,
                ..Home::default()
            });
        }
    }

    /// Takes one cluster for a table, whose old contents are unknown.
    fn take_one(&mut self) -> u64 {
        let index = self.free.pop_first().unwrap_or(self.counts.len() as u64);
        self.set(index, 1);
        index << self.cluster_bits
    }

    /// Takes `count` clusters in a row behind everything else: they read as zeros.
    fn take_at_end(&mut self, count: u64) -> u64 {
        let first = self.counts.len() as u64;
        for index in first..first + count {
            self.set(index, 1);
        }
        first << self.cluster_bits
    }

    /// Takes up to `count` clusters in a row for data: offset, number, and whether their old
    /// contents are unknown.
    pub(super) fn take_data(&mut self, count: u64) -> (u64, u64, bool) {
        if self.free.len() <= RESERVE {
            return (self.take_at_end(count), count, false);
        }
        // From the end, so that tables stay in front.
        let last = self.free.pop_last().unwrap_or_default();
        let mut first = last;
        while last - first + 1 < count && first > 0 && self.free.len() > RESERVE {
            if !self.free.remove(&(first - 1)) {
                break;
            }
            first -= 1;
        }
        for index in first..=last {
            self.set(index, 1);
        }
        (first << self.cluster_bits, last - first + 1, true)
    }

    /// One user less of the cluster at `offset`.
    pub(super) fn release(&mut self, offset: u64) -> io::Result<()> {
        let count = self.count(offset);
        let index = offset >> self.cluster_bits;
        let less = count
            .checked_sub(1)
            .ok_or_else(|| damaged("a cluster in use counts as free"))?;
        self.set(index, less);
        if less == 0 {
            self.released.push(index);
        }
        Ok(())
    }

    /// Gives `home` a place of `clusters` clusters that may be written.
    pub(super) fn move_home(&mut self, home: &mut Home, clusters: u64) -> io::Result<()> {
        if home.fresh && home.clusters >= clusters {
            return Ok(());
        }
        let old = std::mem::take(home);
        home.offset = match clusters {
            1 => self.take_one(),
            more => self.take_at_end(more),
        };
        home.clusters = clusters;
        home.dirty = true;
        home.fresh = true;
        if old.offset != 0 {
            for at in 0..old.clusters {
                self.release(old.offset + (at << self.cluster_bits))?;
            }
        }
        Ok(())
    }

    /// Gives all that has changed here a place that may be written. Moving changes counts,
    /// which may concern further blocks, and so on; there are finitely many.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.blocks.len() as u64 * 8;
            let clusters = bytes.div_ceil(1 << self.cluster_bits).max(1);
            let moved = |home: &Home| home.fresh;
            if !moved(&self.table) || self.table.clusters < clusters {
                let mut table = std::mem::take(&mut self.table);
                let result = self.move_home(&mut table, clusters);
                self.table = table;
                result?;
                continue;
            }
            let next = self
                .blocks
                .iter()
                .position(|block| block.dirty && !block.fresh);
            let Some(next) = next else { return Ok(()) };
            let mut block = std::mem::take(&mut self.blocks[next]);
            let result = self.move_home(&mut block, 1);
            self.blocks[next] = block;
            result?;
        }
    }

    /// Everything that must be written: offset and contents.
    pub(super) fn contents(&self) -> Vec<(u64, Vec<u8>)> {
        let cluster = 1_usize << self.cluster_bits;
        let mut all = Vec::new();
        for (block, counts) in self.blocks.iter().zip(self.counts.chunks(self.per_block())) {
            if block.dirty {
                let mut bytes: Vec<u8> = counts
                    .iter()
                    .flat_map(|count| count.to_be_bytes())
                    .collect();
                bytes.resize(cluster, 0);
                all.push((block.offset, bytes));
            }
        }
        let entries = self.blocks.iter().map(|block| block.offset);
        let mut bytes: Vec<u8> = entries.flat_map(u64::to_be_bytes).collect();
        bytes.resize(self.table.clusters as usize * cluster, 0);
        all.push((self.table.offset, bytes));
        all
    }

    /// The file is what is here: what was released may be used again.
    pub(super) fn committed(&mut self) {
        self.table.committed();
        self.blocks.iter_mut().for_each(Home::committed);
        let room = MOST_FREE.saturating_sub(self.free.len());
        self.free.extend(self.released.drain(..).take(room));
    }
}
