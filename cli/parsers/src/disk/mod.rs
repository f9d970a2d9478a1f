//! Disk images.

mod partitions;

use std::fs::File;
use std::io;
use std::path::PathBuf;

use boxbuild_vmm::disk::{Image, ImageError, SECTOR};
use serde::{Deserialize, Serialize};

/// What a disk image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFacts {
    /// Length of the disk in bytes.
    pub len: u64,
    /// Whether clusters of it are compressed.
    pub is_compressed: bool,
    /// Numbers of the partitions with a Linux file system.
    pub linux_partitions: Vec<usize>,
}

/// Opens an image; with `qcow2`, a raw one is refused.
pub(crate) fn open(file: File, qcow2: bool) -> Result<Image, ImageError> {
    let image = Image::named(file, PathBuf::from("that is read"))?;
    if qcow2 && !image.is_qcow2() {
        return Err(ImageError::NotQcow2);
    }
    if image.is_empty() || !image.len().is_multiple_of(SECTOR) {
        return Err(ImageError::Length(image.len()));
    }
    Ok(image)
}

pub(crate) fn facts(image: &Image) -> io::Result<DiskFacts> {
    Ok(DiskFacts {
        len: image.len(),
        is_compressed: image.is_compressed()?,
        linux_partitions: partitions::linux(image)?,
    })
}
