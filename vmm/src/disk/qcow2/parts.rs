//! Which clusters of an image are its own parts, and not data of the disk.

use std::collections::HashSet;
use std::io;

use super::compressed::Unpacker;
use super::refcounts::{Home, Refcounts};
use super::table::{COMPRESSED, OFFSET, damaged};

/// The clusters that header and tables had when the image was opened.
///
/// A second-level table of a damaged image may say that one of them has data of the disk. What the guest
/// writes there would go over the tables, and what it discards would make the place free. Tables are
/// looked at when they are read for the first time: later they say where this process put things.
#[derive(Debug)]
pub(super) struct Parts {
    cluster_bits: u32,
    /// Numbers of clusters.
    clusters: HashSet<u64>,
    /// Numbers of the tables that were looked at.
    checked: HashSet<usize>,
}

impl Parts {
    /// The parts of an image: its first-level table `l1`, the second-level ones at `tables`, the reference
    /// counts, and the header.
    pub(super) fn new(bits: u32, l1: &Home, tables: &[u64], refcounts: &Refcounts) -> Parts {
        let mut clusters = HashSet::from([0]);
        let homes = [l1, &refcounts.table].into_iter().chain(&refcounts.blocks);
        for home in homes.filter(|home| home.offset != 0) {
            let first = home.offset >> bits;
            clusters.extend(first..first + home.clusters);
        }
        let tables = tables.iter().filter(|offset| **offset != 0);
        clusters.extend(tables.map(|offset| offset >> bits));
        Parts {
            cluster_bits: bits,
            clusters,
            checked: HashSet::new(),
        }
    }

    /// Checks the entries of table number `table`, which were read from the file.
    ///
    /// # Errors
    /// If one of them is no place for data.
    pub(super) fn check(
        &mut self,
        table: usize,
        entries: &[u64],
        unpacker: &Unpacker,
    ) -> io::Result<()> {
        if self.checked.contains(&table) {
            return Ok(());
        }
        for entry in entries {
            let bytes = if entry & COMPRESSED != 0 {
                unpacker.range(*entry)
            } else if entry & OFFSET != 0 {
                entry & OFFSET..(entry & OFFSET) + 1
            } else {
                continue;
            };
            let mut clusters =
                bytes.start >> self.cluster_bits..=(bytes.end - 1) >> self.cluster_bits;
            if clusters.any(|cluster| self.clusters.contains(&cluster)) {
                return Err(damaged(
                    "data of the disk are said to be in one of its tables",
                ));
            }
        }
        self.checked.insert(table);
        Ok(())
    }
}
