//! Tables of an image and their entries: numbers in big-endian order.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use crate::disk::error::ImageError;

/// Bits 9 to 55 of a table's entry: an offset in the file.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of an entry: nothing else refers to the cluster.
pub(super) const COPIED: u64 = 1 << 63;
/// Bit 62 of an entry of a second-level table: compressed.
pub(super) const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an entry of a second-level table (version 3): reads as zeros.
pub(super) const ZERO: u64 = 1;

pub(super) fn read_table(file: &File, offset: u64, entries: usize) -> io::Result<Box<[u64]>> {
    let mut bytes = vec![0; entries * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes
        .chunks_exact(8)
        .map(|entry| be_u64(entry, 0))
        .collect())
}

/// Refuses first-level tables in which two entries refer to the same second-level table: a small file
/// would claim a large disk that way.
pub(super) fn check_tables_differ(offsets: impl Iterator<Item = u64>) -> Result<(), ImageError> {
    let mut offsets: Vec<u64> = offsets.filter(|offset| *offset != 0).collect();
    offsets.sort_unstable();
    if offsets.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ImageError::Damaged("parts of the disk share a table"));
    }
    Ok(())
}

pub(super) fn damaged(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, ImageError::Damaged(what))
}

pub(super) fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn be_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be_u32(bytes, at)) << 32 | u64::from(be_u32(bytes, at + 4))
}
