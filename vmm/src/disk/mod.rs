//! What a disk device stores its sectors in.
//!
//! A box's image is read only and shared by every build that runs from it, through the host's
//! page cache. What a guest writes goes to its own [`Overlay`]: a sparse file without a name,
//! at the same offset, and a bitmap in memory that says which blocks are there. There is no
//! metadata on disk that could be corrupted, and nothing to clean up.
//!
//! Where changes shall stay, [`open_in_place`] gives a disk that writes them into the image.

mod config;
mod error;
mod export;
mod file_io;
mod image;
mod in_place;
mod lock;
mod mapping;
mod overlay;
mod qcow2;
mod raw;
mod storage;
pub mod tmpfile;

pub(crate) use config::OpenDisk;
pub use config::{DiskConfig, ImageFormat, NamedFile, OverlayConfig};
pub use error::{ImageError, OpenError};
pub use export::PlainImage;
pub use image::Image;
pub use in_place::open_in_place;
pub use overlay::Overlay;
pub use overlay::changes::{KeptChanges, keep as keep_changes};
pub use raw::RawDisk;
pub use storage::{Disk, SECTOR};
