//! A disk in a raw file.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::path::PathBuf;

use super::error::with_context;
use super::file_io::{punch, write_zeros};
use super::storage::{Disk, SECTOR};
use crate::guest_io::Buffers;

/// A raw file.
#[derive(Debug)]
pub struct RawDisk {
    file: File,
    path: PathBuf,
    size: u64,
    read_only: bool,
}

impl RawDisk {
    /// The disk in `file`; a rest that is no whole sector is left out.
    ///
    /// # Errors
    /// If the size of the file cannot be found out.
    pub fn new(file: File, read_only: bool) -> io::Result<RawDisk> {
        RawDisk::named(file, PathBuf::from("of the guest"), read_only)
    }

    /// The disk in `file`, which errors call `path`.
    pub(super) fn named(mut file: File, path: PathBuf, read_only: bool) -> io::Result<RawDisk> {
        // Works for block devices as well, unlike the size in the file's metadata.
        let size = file.seek(SeekFrom::End(0))? / SECTOR * SECTOR;
        Ok(RawDisk {
            file,
            path,
            size,
            read_only,
        })
    }

    fn with_context<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result
            .map_err(|error| with_context(format_args!("the disk {}", self.path.display()), &error))
    }
}

impl Disk for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, offset: u64, target: &Buffers<'_>) -> io::Result<()> {
        let mut cursor = target.cursor();
        let len = cursor.remaining();
        self.with_context(cursor.fill_from(&self.file, offset, len))
    }

    fn write(&self, offset: u64, source: &Buffers<'_>) -> io::Result<()> {
        let mut cursor = source.cursor();
        let len = cursor.remaining();
        self.with_context(cursor.drain_to(&self.file, offset, len))
    }

    fn flush(&self) -> io::Result<()> {
        self.with_context(self.file.sync_data())
    }

    fn zero(&self, offset: u64, len: u64, discard: bool) -> io::Result<()> {
        let result = match punch(&self.file, offset, len) {
            // The file system has no holes.
            Err(error) if error.kind() == ErrorKind::Unsupported && discard => Ok(()),
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                write_zeros(&self.file, offset, len)
            }
            result => result,
        };
        self.with_context(result)
    }

    fn serial(&self) -> String {
        String::from("boxbuild")
    }
}
