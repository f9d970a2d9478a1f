//! The header, and what of the format is refused.

use std::fs::File;

use super::table::{be_u32, be_u64};
use crate::disk::error::ImageError;
use crate::disk::file_io::read_at;

/// First bytes of every image.
pub(in crate::disk) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Incompatible feature bits.
mod feature {
    /// Reference counts may be wrong; they do not matter for reading.
    pub(super) const DIRTY: u64 = 1 << 0;
    pub(super) const CORRUPT: u64 = 1 << 1;
    pub(super) const EXTERNAL_DATA: u64 = 1 << 2;
    pub(super) const COMPRESSION_TYPE: u64 = 1 << 3;
    pub(super) const EXTENDED_L2: u64 = 1 << 4;
}

/// Length of a version 2 header, and of the first version 3 header.
const HEADER_2: usize = 72;
const HEADER_3: usize = 104;
/// Largest first-level table, in bytes (QEMU, `QCOW_MAX_L1_SIZE`).
pub(super) const LARGEST_L1: u64 = 32 << 20;
/// Largest disk in bytes: no file system of a box is larger, and what a header claims beyond it would
/// only keep its readers busy.
const LARGEST_DISK: u64 = 64 << 40;
/// Largest reference count table, in bytes (QEMU, `QCOW_MAX_REFTABLE_SIZE`).
pub(super) const LARGEST_REFTABLE: u64 = 8 << 20;

/// What the header says.
#[derive(Debug, Clone)]
pub(in crate::disk) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Bytes of the disk.
    pub(super) len: u64,
    pub(super) l1_entries: u64,
    pub(super) l1_offset: u64,
    pub(super) reftable_offset: u64,
    pub(super) reftable_clusters: u64,
    /// Clusters are compressed with zstd, not deflate.
    pub(super) zstd: bool,
    snapshots: u32,
    dirty: bool,
    autoclear: u64,
    refcount_order: u32,
}

impl Header {
    /// Bytes of the fields that change while an image is written, and their offset: the disk's
    /// size (24), encryption (32, always 0), the first table's entries (36) and offset (40), the
    /// reference count table's offset (48) and clusters (56).
    pub(super) const LIVE: std::ops::Range<usize> = 24..60;

    pub(super) fn read(file: &File) -> Result<Header, ImageError> {
        let mut bytes = [0; HEADER_3 + 8];
        read_at(file, &mut bytes, 0)?;
        let number = |at: usize| u64::from(be_u32(&bytes, at));
        let version = be_u32(&bytes, 4);
        let unsupported = |what: &str| ImageError::Unsupported(what.to_owned());
        let header_len = match version {
            2 => HEADER_2 as u64,
            3 => number(100),
            other => return Err(ImageError::Unsupported(format!("qcow2 version {other}"))),
        };
        if version == 3 && header_len < HEADER_3 as u64 {
            return Err(ImageError::Damaged("its header is too short"));
        }
        if be_u64(&bytes, 8) != 0 {
            return Err(unsupported("a backing file"));
        }
        if number(32) != 0 {
            return Err(unsupported("encryption"));
        }
        let mut header = Header {
            version,
            cluster_bits: be_u32(&bytes, 20),
            len: be_u64(&bytes, 24),
            l1_entries: number(36),
            l1_offset: be_u64(&bytes, 40),
            reftable_offset: be_u64(&bytes, 48),
            reftable_clusters: number(56),
            zstd: false,
            snapshots: be_u32(&bytes, 60),
            dirty: false,
            autoclear: 0,
            // Version 2 has counts of 16 bits.
            refcount_order: 4,
        };
        if version == 3 {
            header.features(&bytes)?;
        }
        if !(9..=21).contains(&header.cluster_bits) {
            return Err(ImageError::Damaged("its cluster size is out of range"));
        }
        if header.len > LARGEST_DISK {
            return Err(ImageError::Damaged(
                "its header claims a disk of more than 64 TiB",
            ));
        }
        let l1_len = header.l1_len();
        if header.l1_entries < l1_len || header.l1_entries > LARGEST_L1 / 8 {
            return Err(ImageError::Damaged("its first table does not fit its size"));
        }
        let file_len = file.metadata()?.len();
        if header
            .l1_offset
            .checked_add(header.l1_entries * 8)
            .is_none_or(|end| end > file_len)
        {
            return Err(ImageError::Damaged("its first table is not in the file"));
        }
        Ok(header)
    }

    /// Takes the fields of version 3.
    fn features(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let unsupported = |what: &str| ImageError::Unsupported(what.to_owned());
        let features = be_u64(bytes, 72);
        if features & feature::CORRUPT != 0 {
            return Err(ImageError::Damaged("it is marked as corrupt"));
        }
        for (bit, name) in [
            (feature::EXTERNAL_DATA, "an external data file"),
            (feature::EXTENDED_L2, "extended L2 entries"),
        ] {
            if features & bit != 0 {
                return Err(unsupported(name));
            }
        }
        if features & !(feature::DIRTY | feature::COMPRESSION_TYPE) != 0 {
            return Err(ImageError::Unsupported(format!(
                "unknown features ({features:#x})"
            )));
        }
        if features & feature::COMPRESSION_TYPE != 0 {
            self.zstd = match bytes[HEADER_3] {
                0 => false,
                1 => true,
                _ => return Err(unsupported("an unknown compression")),
            };
        }
        self.dirty = features & feature::DIRTY != 0;
        self.autoclear = be_u64(bytes, 88);
        self.refcount_order = be_u32(bytes, 96);
        Ok(())
    }

    /// Entries that the first table needs for the disk: a second-level table is one cluster of
    /// 8-byte entries.
    pub(super) fn l1_len(&self) -> u64 {
        self.len.div_ceil(1 << (2 * self.cluster_bits - 3))
    }

    /// Refuses what can be read, but not written.
    pub(super) fn check_writable(&self) -> Result<(), ImageError> {
        if self.dirty {
            return Err(ImageError::NeedsRepair("it was not closed"));
        }
        let refuse = |what: &str| Err(ImageError::NotWritable(what.to_owned()));
        if self.snapshots != 0 {
            return refuse("snapshots inside it");
        }
        if self.autoclear != 0 {
            return refuse("persistent bitmaps");
        }
        if self.refcount_order != 4 {
            return refuse("reference counts that are not of 16 bits");
        }
        Ok(())
    }
}
