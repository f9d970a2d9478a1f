//! An image written out as plain qcow2 (QEMU, docs/interop/qcow2.rst): no compression, no holes
//! in its order, front to back in one pass.
//!
//! Compressed images are slow to run from, because each small read unpacks a whole cluster; boxes
//! are unpacked when they are installed.

use std::io::{self, Write};
use std::os::fd::AsRawFd;

use super::error::ImageError;
use super::image::Image;
use super::mapping::Mapping;
use super::qcow2::MAGIC;

/// 64 KiB, as `qemu-img` makes them.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of a second-level table, and reference counts of 16 bits in a block.
const L2_ENTRIES: u64 = CLUSTER / 8;
const COUNTS: u64 = CLUSTER / 2;
/// Length of a version 3 header.
const HEADER: u32 = 104;
/// Bit 63 of an entry: nothing else refers to the cluster.
const COPIED: u64 = 1 << 63;

/// Most data that compressed clusters may come to, in bytes.
const MOST_DATA: u64 = 4 << 40;

/// Where everything will be, in clusters. Cluster 0 has the header.
#[derive(Debug)]
struct Layout {
    refcount_table: u64,
    refcount_blocks: u64,
    l1: u64,
    l2: u64,
    data: u64,
    end: u64,
}

impl Image {
    /// Whether clusters of the image are compressed.
    ///
    /// # Errors
    /// If the image cannot be read.
    pub fn is_compressed(&self) -> io::Result<bool> {
        let mut offset = 0;
        while offset < self.len() {
            let (mapping, count) = self.map(offset, self.len() - offset)?;
            if matches!(mapping, Mapping::Compressed { .. }) {
                return Ok(true);
            }
            offset += count;
        }
        Ok(false)
    }

    /// Fills `bytes` from `offset` on, both in the disk.
    ///
    /// # Errors
    /// If the image cannot be read.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.read_bytes(offset, bytes)
    }

    /// Returns the disk as a plain qcow2 image that can be written. What is not in use takes no place
    /// in it.
    ///
    /// # Errors
    /// If the image cannot be read, or claims more data than its file can hold.
    pub fn plain(&self) -> io::Result<PlainImage<'_>> {
        let used = self.used_clusters()?;
        Ok(PlainImage {
            image: self,
            layout: Layout::new(self.len(), &used),
            used,
        })
    }

    /// Writes the disk as a plain qcow2 image.
    ///
    /// # Errors
    /// If the image cannot be read or `out` cannot be written.
    pub fn write_plain(&self, out: &mut dyn Write) -> io::Result<()> {
        self.plain()?.write_to(out)
    }

    /// Numbers of the disk's clusters that may have something in them, in order.
    fn used_clusters(&self) -> io::Result<Vec<u64>> {
        let mut used = Vec::new();
        let mut budget = Budget::of(self)?;
        let mut take = |from: u64, to: u64| {
            let first = from / CLUSTER;
            let next = used.last().map_or(0, |last| last + 1);
            used.extend(first.max(next)..to.div_ceil(CLUSTER));
        };
        let mut offset = 0;
        while offset < self.len() {
            let (mapping, count) = self.map(offset, self.len() - offset)?;
            match mapping {
                Mapping::Zero => {}
                Mapping::Compressed { .. } => {
                    budget.unpacked(count)?;
                    take(offset, offset + count);
                }
                Mapping::Changes { .. } => take(offset, offset + count),
                Mapping::File(at) => {
                    // Of what has a place in the file, some may be holes of the file.
                    let mut position = at;
                    while let Some((from, to)) = self.data(position, at + count)? {
                        budget.read(to - from)?;
                        take(offset + (from - at), offset + (to - at));
                        position = to;
                    }
                }
            }
            offset += count;
        }
        Ok(used)
    }

    /// The next data of the image's file in a range (lseek(2), SEEK_DATA).
    fn data(&self, from: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
        if from >= end {
            return Ok(None);
        }
        let seek = |offset: u64, whence| {
            let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
            // SAFETY: lseek takes no memory. All reads say their offset themselves.
            match unsafe { libc::lseek(self.file().as_raw_fd(), offset, whence) } {
                -1 => Err(io::Error::last_os_error()),
                found => Ok(found as u64),
            }
        };
        let start = match seek(from, libc::SEEK_DATA) {
            Ok(start) => start,
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => return Ok(None),
            // A file system without holes.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return Ok(Some((from, end)));
            }
            Err(error) => return Err(error),
        };
        if start >= end {
            return Ok(None);
        }
        let stop = seek(start, libc::SEEK_HOLE)?;
        Ok(Some((start, stop.min(end))))
    }
}

/// How much data the file of an image can hold. One that refers to the same bytes again and again
/// would write out a disk of any size.
struct Budget {
    file: u64,
    compressed: u64,
}

impl Budget {
    fn of(image: &Image) -> io::Result<Budget> {
        let len = image.file().metadata()?.len();
        let ratio = image.largest_ratio();
        Ok(Budget {
            // Data come in whole blocks of the file system.
            file: len.saturating_add(CLUSTER),
            compressed: len.saturating_mul(ratio).min(MOST_DATA),
        })
    }

    fn read(&mut self, count: u64) -> io::Result<()> {
        Budget::take(&mut self.file, count)
    }

    fn unpacked(&mut self, count: u64) -> io::Result<()> {
        Budget::take(&mut self.compressed, count)
    }

    fn take(left: &mut u64, count: u64) -> io::Result<()> {
        *left = left.checked_sub(count).ok_or_else(|| {
            let problem = ImageError::Damaged("it claims more data than its file can hold");
            io::Error::new(io::ErrorKind::InvalidData, problem)
        })?;
        Ok(())
    }
}

/// A disk as a plain qcow2 image, which has not been written yet.
#[derive(Debug)]
pub struct PlainImage<'a> {
    image: &'a Image,
    layout: Layout,
    used: Vec<u64>,
}

impl PlainImage<'_> {
    /// Returns the length of the image in bytes.
    pub fn size(&self) -> u64 {
        self.layout.end * CLUSTER
    }

    /// Writes the image.
    ///
    /// # Errors
    /// If the disk cannot be read or `out` cannot be written.
    pub fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let len = self.image.len();
        self.layout.write_metadata(len, &self.used, out)?;
        let mut buffer = vec![0; CLUSTER as usize];
        for cluster in &self.used {
            let offset = cluster * CLUSTER;
            let count = CLUSTER.min(len - offset) as usize;
            self.image.read_bytes(offset, &mut buffer[..count])?;
            buffer[count..].fill(0);
            out.write_all(&buffer)?;
        }
        Ok(())
    }
}

impl Layout {
    fn new(len: u64, used: &[u64]) -> Layout {
        let l1_entries = len.div_ceil(CLUSTER * L2_ENTRIES);
        let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER).max(1);
        let l2_clusters = tables(used).count() as u64;
        let rest = 1 + l1_clusters + l2_clusters + used.len() as u64;
        // The blocks count themselves and their table.
        let mut blocks = 1;
        let mut table = 1;
        while blocks * COUNTS < rest + blocks + table {
            blocks = (rest + blocks + table).div_ceil(COUNTS);
            table = (blocks * 8).div_ceil(CLUSTER);
        }
        let refcount_blocks = 1 + table;
        let l1 = refcount_blocks + blocks;
        let l2 = l1 + l1_clusters;
        let data = l2 + l2_clusters;
        Layout {
            refcount_table: 1,
            refcount_blocks,
            l1,
            l2,
            data,
            end: data + used.len() as u64,
        }
    }

    fn write_metadata(&self, len: u64, used: &[u64], out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header(len))?;
        let blocks = self.l1 - self.refcount_blocks;
        write_table(out, self.refcount_blocks - self.refcount_table, {
            (0..blocks).map(|block| (self.refcount_blocks + block) * CLUSTER)
        })?;
        // Each cluster is used once.
        let mut counts = vec![0; (blocks * CLUSTER) as usize];
        for count in counts.chunks_exact_mut(2).take(self.end as usize) {
            count[1] = 1;
        }
        out.write_all(&counts)?;

        let mut l1 = vec![0; (len.div_ceil(CLUSTER * L2_ENTRIES)) as usize];
        for (number, table) in tables(used).enumerate() {
            l1[table as usize] = ((self.l2 + number as u64) * CLUSTER) | COPIED;
        }
        write_table(out, self.l2 - self.l1, l1)?;
        let mut rest = used;
        let mut place = self.data;
        for table in tables(used) {
            let split = rest.partition_point(|cluster| cluster / L2_ENTRIES == table);
            let (mine, others) = rest.split_at(split);
            let mut entries = vec![0; L2_ENTRIES as usize];
            for cluster in mine {
                entries[(cluster % L2_ENTRIES) as usize] = (place * CLUSTER) | COPIED;
                place += 1;
            }
            write_table(out, 1, entries)?;
            rest = others;
        }
        Ok(())
    }

    /// The cluster of the header.
    fn header(&self, len: u64) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        let l1_entries = len.div_ceil(CLUSTER * L2_ENTRIES) as u32;
        // Version, no backing file, cluster size, disk size, no encryption, first table, reference
        // count table, no snapshots, no features, counts of 2^4 bits.
        bytes.extend(3u32.to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend(CLUSTER_BITS.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        bytes.extend(0u32.to_be_bytes());
        bytes.extend(l1_entries.to_be_bytes());
        bytes.extend((self.l1 * CLUSTER).to_be_bytes());
        bytes.extend((self.refcount_table * CLUSTER).to_be_bytes());
        bytes.extend(((self.refcount_blocks - self.refcount_table) as u32).to_be_bytes());
        bytes.extend([0; 12]);
        bytes.extend([0; 24]);
        bytes.extend(4u32.to_be_bytes());
        bytes.extend(HEADER.to_be_bytes());
        bytes.resize(CLUSTER as usize, 0);
        bytes
    }
}

/// Numbers of the second-level tables that `used` needs, in order.
fn tables(used: &[u64]) -> impl Iterator<Item = u64> {
    let mut last = None;
    used.iter()
        .map(|cluster| cluster / L2_ENTRIES)
        .filter(move |table| last.replace(*table) != Some(*table))
}

/// Entries, and zeros up to the end of the last of `clusters`.
fn write_table(
    out: &mut dyn Write,
    clusters: u64,
    entries: impl IntoIterator<Item = u64>,
) -> io::Result<()> {
    let mut bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_be_bytes).collect();
    bytes.resize((clusters * CLUSTER) as usize, 0);
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// Writes a raw disk with data at its ends, in its middle, and across a table's end.
    fn write_content(path: &Path, len: u64) {
        let file = std::fs::File::create(path).unwrap();
        file.set_len(len).unwrap();
        for start in [0, len / 2 - 70_000, (512 << 20) - 5000, len - 100] {
            let count = len.saturating_sub(start).min(140_000);
            let bytes: Vec<u8> = (0..count).map(|at| (at / 512 + at % 3) as u8 | 1).collect();
            file.write_all_at(&bytes, start).unwrap();
        }
    }

    fn qemu_img(args: &[&str], paths: &[&Path]) -> Option<String> {
        let output = Command::new("qemu-img")
            .args(args)
            .args(paths)
            .output()
            .ok()?;
        assert!(output.status.success(), "{args:?}: {output:?}");
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn the_same_disk_without_compression() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for (len, options) in [
            (1 << 20, &["convert", "-f", "raw", "-O", "qcow2", "-c"][..]),
            (
                3 << 20,
                &[
                    "convert",
                    "-f",
                    "raw",
                    "-O",
                    "qcow2",
                    "-c",
                    "-o",
                    "cluster_size=4096",
                ],
            ),
            (
                1_000_448,
                &[
                    "convert",
                    "-f",
                    "raw",
                    "-O",
                    "qcow2",
                    "-o",
                    "preallocation=metadata",
                ],
            ),
            (700 << 20, &["convert", "-f", "raw", "-O", "raw"]),
        ] {
            write_content(&path("raw"), len as u64);
            if qemu_img(options, &[&path("raw"), &path("image")]).is_none() {
                eprintln!("skipped: the_same_disk_without_compression: no qemu-img");
                return;
            }
            let image = Image::open(&path("image")).unwrap();
            assert_eq!(image.is_compressed().unwrap(), options.contains(&"-c"));
            let mut plain = std::fs::File::create(path("plain")).unwrap();
            image.write_plain(&mut plain).unwrap();
            drop(plain);
            qemu_img(&["check"], &[&path("plain")]);
            qemu_img(
                &["compare", "-f", "raw", "-F", "qcow2"],
                &[&path("raw"), &path("plain")],
            );
            let plain = Image::open_qcow2(&path("plain")).unwrap();
            assert!(!plain.is_compressed().unwrap());
            assert_eq!(plain.len(), len as u64);
            let size = std::fs::metadata(path("plain")).unwrap().len();
            assert!(size < 2 << 20, "{size}");
        }
    }
}
