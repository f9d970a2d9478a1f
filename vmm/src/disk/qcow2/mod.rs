//! Disk images in QEMU's format qcow2 (QEMU, docs/interop/qcow2.rst). Nothing in an image is
//! trusted.

mod compressed;
mod header;
mod metadata;
mod read;
mod refcounts;
mod write;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use super::image::ImageError;

pub(super) use header::{Header, MAGIC};
pub(super) use read::Qcow2;
pub(super) use write::Qcow2Disk;

/// Bits 9 to 55 of a table's entry: an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 63 of an entry: nothing else refers to the cluster.
const COPIED: u64 = 1 << 63;
/// Bit 62 of an entry of a second-level table: compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an entry of a second-level table (version 3): reads as zeros.
const ZERO: u64 = 1;

fn read_table(file: &File, offset: u64, entries: usize) -> io::Result<Box<[u64]>> {
    let mut bytes = vec![0; entries * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes
        .chunks_exact(8)
        .map(|entry| be_u64(entry, 0))
        .collect())
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, ImageError::Damaged(what))
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be_u32(bytes, at)) << 32 | u64::from(be_u32(bytes, at + 4))
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
