//! What a disk device stores its sectors in.
//!
//! A box's image is read only and shared by every build that runs from it, through the host's
//! page cache. What a guest writes goes to its own [`Overlay`]: a sparse file without a name,
//! at the same offset, and a bitmap in memory that says which blocks are there. There is no
//! metadata on disk that could be corrupted, and nothing to clean up.

mod image;
mod overlay;
mod qcow2;
mod raw;
mod volatile;

use std::fmt;
use std::io;

use crate::virtio::Buffers;

pub use image::{Image, ImageError};
pub use overlay::Overlay;
pub use raw::RawDisk;

/// Bytes of a sector, the unit of all offsets in virtio-blk.
pub const SECTOR: u64 = 512;

/// Storage of a disk.
///
/// The caller has checked that offset and length lie inside of [`size`](Self::size).
pub trait Disk: Send + fmt::Debug {
    /// Bytes, a multiple of [`SECTOR`].
    fn size(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// Fills `target` from `offset` (bytes) on.
    ///
    /// # Errors
    /// If the storage fails.
    fn read(&mut self, offset: u64, target: &Buffers<'_>) -> io::Result<()>;

    /// Stores `source` from `offset` (bytes) on.
    ///
    /// # Errors
    /// If the storage fails or is full.
    fn write(&mut self, offset: u64, source: &Buffers<'_>) -> io::Result<()>;

    /// Makes everything written so far survive.
    ///
    /// # Errors
    /// If the storage fails.
    fn flush(&mut self) -> io::Result<()>;

    /// `len` bytes from `offset` on read as zeros from now on; where `discard` says that
    /// their contents do not matter any more, doing nothing is right as well.
    ///
    /// # Errors
    /// If the storage fails.
    fn zero(&mut self, offset: u64, len: u64, discard: bool) -> io::Result<()>;

    /// What the guest reads as the disk's serial number, at most 20 bytes.
    fn serial(&self) -> String;
}
