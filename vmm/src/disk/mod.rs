//! Disks: a read-only image, and a private overlay that is thrown away.
//!
//! The image is shared by every build that runs from it, through the host's page cache. What a
//! guest writes goes to its own sparse file without a name, at the same offset; a bitmap in
//! memory says which blocks are there. There is no metadata on disk that could be corrupted,
//! and nothing to clean up.

mod image;
mod overlay;
mod qcow2;
mod volatile;

pub use image::{Image, ImageError};
pub use overlay::Overlay;

/// The unit of a disk's length and of offsets, in bytes (virtio 1.2, section 5.2.4).
pub const SECTOR: u64 = 512;
