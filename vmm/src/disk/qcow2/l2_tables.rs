//! Second-level tables of an image that does not change, read when they are first needed.
//!
//! A table of 64 KiB is for 512 MiB of the disk, so that all tables of most disks are kept. Of an
//! image with more of them the first ones are kept, and of the others those that were used last: what
//! a file claims does not decide on the memory of its reader.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::table::read_table;

/// Tables that stay in memory, in bytes: those of a disk of 512 GiB with clusters of 64 KiB.
const KEPT: u64 = 64 << 20;
/// Further tables, in bytes.
const RECENT: usize = 4 << 20;

/// The tables that have been read.
#[derive(Debug)]
pub(super) struct L2Tables {
    entries: usize,
    kept: Box<[OnceLock<Box<[u64]>>]>,
    /// Bytes that are left of [`KEPT`].
    left: AtomicU64,
    /// Numbers of tables, and the tables; the last one was used last.
    recent: Mutex<VecDeque<(usize, Arc<[u64]>)>>,
}

impl L2Tables {
    /// Space for `count` tables of one cluster each.
    pub(super) fn new(count: usize, cluster_bits: u32) -> L2Tables {
        L2Tables {
            entries: 1 << (cluster_bits - 3),
            kept: (0..count).map(|_| OnceLock::new()).collect(),
            left: AtomicU64::new(KEPT),
            recent: Mutex::default(),
        }
    }

    /// Returns an entry of table number `index`, which is at `offset` of the file.
    pub(super) fn entry(
        &self,
        file: &File,
        index: usize,
        offset: u64,
        within: usize,
    ) -> io::Result<u64> {
        let slot = &self.kept[index];
        if let Some(table) = slot.get() {
            return Ok(table[within]);
        }
        if self.reserve() {
            let table = read_table(file, offset, self.entries)?;
            return Ok(slot.get_or_init(|| table)[within]);
        }
        Ok(self.recent(file, index, offset)?[within])
    }

    /// Reserves space for a table that stays in memory, if some is left.
    fn reserve(&self) -> bool {
        let size = self.size() as u64;
        let take = |left: u64| left.checked_sub(size);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Bytes of a table.
    fn size(&self) -> usize {
        self.entries * 8
    }

    fn recent(&self, file: &File, index: usize, offset: u64) -> io::Result<Arc<[u64]>> {
        let lock = || self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut recent = lock();
            let found = recent.iter().rposition(|(number, _)| *number == index);
            if let Some(entry) = found.and_then(|at| recent.remove(at)) {
                let table = Arc::clone(&entry.1);
                recent.push_back(entry);
                return Ok(table);
            }
        }
        let table: Arc<[u64]> = read_table(file, offset, self.entries)?.into();
        let mut recent = lock();
        while recent.len() >= (RECENT / self.size()).max(1) {
            recent.pop_front();
        }
        recent.push_back((index, Arc::clone(&table)));
        Ok(table)
    }

    /// Bytes of the tables in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        let kept = self.kept.iter().filter(|slot| slot.get().is_some()).count();
        let recent = self.recent.lock().map_or(0, |recent| recent.len());
        (kept + recent) * self.size()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn memory_for_tables_has_a_limit() {
        const BITS: u32 = 16;
        let file = tempfile::tempfile().unwrap();
        let count = 1200_u64;
        file.set_len(count << BITS).unwrap();
        for index in 0..count {
            file.write_all_at(&(index + 7).to_be_bytes(), (index << BITS) + 8)
                .unwrap();
        }
        let tables = L2Tables::new(count as usize, BITS);
        for _ in 0..2 {
            for index in 0..count {
                let entry = tables.entry(&file, index as usize, index << BITS, 1);
                assert_eq!(entry.unwrap(), index + 7);
                assert!(tables.in_memory() <= KEPT as usize + RECENT);
            }
        }
        // One that was just used is not read again.
        file.write_all_at(&[0xff; 8], ((count - 1) << BITS) + 8)
            .unwrap();
        let last = tables.entry(&file, count as usize - 1, (count - 1) << BITS, 1);
        assert_eq!(last.unwrap(), count + 6);
    }
}
