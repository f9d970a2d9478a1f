//! What a disk device stores its sectors in.
//!
//! A box's image is read only and shared by every build that runs from it, through the host's
//! page cache. What a guest writes goes to its own [`Overlay`]: a sparse file without a name,
//! at the same offset, and a bitmap in memory that says which blocks are there. There is no
//! metadata on disk that could be corrupted, and nothing to clean up.
//!
//! Where changes shall stay, [`open_in_place`] gives a disk that writes them into the image.

mod image;
mod in_place;
mod lock;
mod overlay;
mod plain;
mod qcow2;
mod raw;
pub mod unnamed;
mod volatile;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::virtio::Buffers;

pub use image::{Image, ImageError};
pub use in_place::open_in_place;
pub use overlay::Overlay;
pub use raw::RawDisk;

/// Bytes of a sector, the unit of all offsets in virtio-blk.
pub const SECTOR: u64 = 512;

/// Storage of a disk.
///
/// The caller has checked that offset and length lie inside of [`size`](Self::size). Several
/// threads may call at once; who reads what another is writing gets any mixture of both. Errors
/// say to which file they happened.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Bytes, a multiple of [`SECTOR`].
    fn size(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// Fills `target` from `offset` (bytes) on.
    ///
    /// # Errors
    /// If the storage fails.
    fn read(&self, offset: u64, target: &Buffers<'_>) -> io::Result<()>;

    /// Stores `source` from `offset` (bytes) on.
    ///
    /// # Errors
    /// If the storage fails or is full.
    fn write(&self, offset: u64, source: &Buffers<'_>) -> io::Result<()>;

    /// Makes everything written so far survive.
    ///
    /// # Errors
    /// If the storage fails.
    fn flush(&self) -> io::Result<()>;

    /// `len` bytes from `offset` on read as zeros from now on; where `discard` says that
    /// their contents do not matter any more, doing nothing is right as well.
    ///
    /// # Errors
    /// If the storage fails.
    fn zero(&self, offset: u64, len: u64, discard: bool) -> io::Result<()>;

    /// What the guest reads as the disk's serial number, at most 20 bytes.
    fn serial(&self) -> String;
}

impl<D: Disk + ?Sized> Disk for Arc<D> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn is_read_only(&self) -> bool {
        (**self).is_read_only()
    }

    fn read(&self, offset: u64, target: &Buffers<'_>) -> io::Result<()> {
        (**self).read(offset, target)
    }

    fn write(&self, offset: u64, source: &Buffers<'_>) -> io::Result<()> {
        (**self).write(offset, source)
    }

    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }

    fn zero(&self, offset: u64, len: u64, discard: bool) -> io::Result<()> {
        (**self).zero(offset, len, discard)
    }

    fn serial(&self) -> String {
        (**self).serial()
    }
}

/// `error`, saying that it happened to `what`, and what to do about it.
fn about(what: impl std::fmt::Display, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            format!("no space is left for {what}: {error}; free some, or choose another place")
        }
        _ => format!("{what}: {error}"),
    };
    io::Error::new(error.kind(), text)
}
