//! Disks that keep what a guest writes.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::error::ImageError;
use super::lock;
use super::qcow2::{MAGIC, Qcow2Disk};
use super::raw::RawDisk;
use super::storage::{Disk, SECTOR};

/// Opens the image at `path`, raw or qcow2, so that writes go into it; what the guest has
/// flushed survives. `len` is the length of the disk in bytes from now on, if it shall be longer
/// than the image. No other program can use the image meanwhile, not even to read it.
///
/// # Errors
/// If it cannot be read and written, is in use or damaged, or is of a kind that is only read
/// ([`ImageError::NotWritable`]). The image is not changed then.
pub fn open_in_place(path: &Path, len: Option<u64>) -> Result<Box<dyn Disk>, ImageError> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    in_place(file, path.to_owned(), len)
}

/// As [`open_in_place`], for an image that is open already and called `name` in errors.
pub(super) fn in_place(
    file: File,
    name: PathBuf,
    len: Option<u64>,
) -> Result<Box<dyn Disk>, ImageError> {
    lock::for_writing(&file)?;
    if let Some(len) = len.filter(|len| !len.is_multiple_of(SECTOR)) {
        return Err(ImageError::Length(len));
    }
    let mut magic = [0; 4];
    if file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC {
        let disk = Qcow2Disk::open(file, name, len)?;
        return match len {
            Some(len) if len < disk.size() => Err(ImageError::Length(len)),
            _ => Ok(Box::new(disk)),
        };
    }
    if let Some(len) = len {
        let now = file.metadata()?.len();
        if len < now {
            return Err(ImageError::Length(len));
        }
        file.set_len(len)?;
    }
    Ok(Box::new(RawDisk::named(file, name, false)?))
}
