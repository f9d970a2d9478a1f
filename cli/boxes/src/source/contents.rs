//! The files and properties of a new box.

use std::fs::File;
use std::io;

use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;
use boxbuild_host::space::Space;
use boxbuild_parsers::{Output, ParseError, Parser};

use super::error::SourceError;
use crate::store::{
    BoxFile, BoxInfo, ContainerImage, Guest, HashedFile, Inventory, Published, Staging, StoreError,
};

/// The files and properties of a new box, of which its description is made.
#[derive(Debug, Clone)]
pub struct BoxContents {
    /// Kernel image.
    pub kernel: BoxFile,
    /// Initial ramdisk.
    pub initrd: BoxFile,
    /// Root disk (qcow2).
    pub disk: BoxFile,
    /// Virtual size of the root disk in bytes.
    pub disk_size: u64,
    /// Kernel command line items, e.g. `root=/dev/vda1`.
    pub cmdline: Vec<String>,
    /// Guest console, e.g. `hvc0`.
    pub console: String,
    /// What the guest side can do.
    pub guest: Guest,
    /// Version of KIWI in the box, if known.
    pub kiwi: Option<String>,
    /// Default guest memory in MiB.
    pub memory_mib: u64,
    /// Default number of virtual CPUs.
    pub cpus: u32,
    /// The same root tree as a container image, if there is one.
    pub container: Option<ContainerImage>,
    /// What it has of what builds may need, if that was looked up.
    pub inventory: Option<Inventory>,
    /// What the box was fetched from, for a published box.
    pub published: Option<Published>,
}

impl BoxContents {
    /// Returns the description of a box of these contents, created at `created` (seconds since the
    /// epoch).
    pub(super) fn into_info(
        self,
        name: String,
        origin: String,
        arch: Arch,
        created: u64,
    ) -> BoxInfo {
        BoxInfo {
            format: BoxInfo::FORMAT,
            name,
            origin,
            arch,
            created,
            kernel: self.kernel,
            initrd: self.initrd,
            disk: self.disk,
            disk_size: self.disk_size,
            cmdline: self.cmdline,
            console: self.console,
            guest: self.guest,
            kiwi: self.kiwi,
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            container: self.container,
            inventory: self.inventory,
            published: self.published,
        }
    }
}

/// Names of a box's files in the staging folder.
#[derive(Debug)]
pub(super) struct FileNames {
    pub(super) kernel: String,
    pub(super) initrd: String,
    pub(super) disk: String,
    pub(super) container: String,
}

impl FileNames {
    /// Returns the names for a box of `arch`.
    pub(super) fn of(arch: Arch) -> FileNames {
        FileNames {
            kernel: format!("kernel.{arch}"),
            initrd: format!("initrd.{arch}"),
            disk: format!("system.{arch}.qcow2"),
            container: format!("container.{arch}.tar.gz"),
        }
    }
}

/// Longest disk that is written, in bytes.
const LONGEST_DISK: u64 = 4 << 40;

/// A disk cannot be written as plain qcow2.
#[derive(Debug)]
pub(super) enum DiskError {
    /// Reading the image failed, or the store has too little space for the disk.
    Parse(ParseError),
    /// The store cannot take it.
    Store(StoreError),
    /// The file cannot be created.
    Io(IoError),
}

/// Writes the disk in `image` as plain qcow2 to the file `name` in the staging folder.
pub(super) fn write_plain_disk(
    parser: &Parser,
    image: &File,
    staging: &Staging,
    name: &str,
) -> Result<BoxFile, DiskError> {
    let path = staging.path().join(name);
    let created = HashedFile::create(&path).map_err(IoError::on("create", &path));
    let mut out = created.map_err(DiskError::Io)?;
    let mut check_space = |size: u64| {
        let space = Space::at(staging.path()).filter(|space| !space.has(size));
        space.map_or(Ok(()), |space| {
            Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "it takes {} MiB, but the file system of {} has {} MiB of free space: free \
                     some, or set KIWI_BOXED_CACHE_DIR to a folder on another one",
                    size >> 20,
                    staging.path().parent().unwrap_or(staging.path()).display(),
                    space.free >> 20
                ),
            ))
        })
    };
    parser
        .plain_disk(image, Output::new(&mut out, LONGEST_DISK), &mut check_space)
        .map_err(DiskError::Parse)?;
    let (size, sha256) = out.finish();
    staging.adopt(name, size, sha256).map_err(DiskError::Store)
}

/// Writes an initial ramdisk with nothing in it to the file `name` in the staging folder, for boxes
/// that mount their root without one.
pub(super) fn write_empty_initrd(staging: &Staging, name: &str) -> Result<BoxFile, SourceError> {
    let path = staging.path().join(name);
    std::fs::write(&path, empty_initrd()).map_err(IoError::on("write", &path))?;
    Ok(staging.describe(name)?)
}

/// Returns a cpio archive without members: its trailer (kernel, buffer-format.rst).
fn empty_initrd() -> Vec<u8> {
    const TRAILER: &[u8] = b"TRAILER!!!\0";
    let mut bytes = b"070701".to_vec();
    for field in 0..13 {
        // The number of links, and the length of the name; all other fields are 0.
        let value = match field {
            4 => 1,
            11 => TRAILER.len(),
            _ => 0,
        };
        bytes.extend(format!("{value:08x}").bytes());
    }
    bytes.extend(TRAILER);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_initrd_is_a_trailer() {
        assert_eq!(empty_initrd().len(), 124);
        assert!(empty_initrd().starts_with(b"07070100000000"));
    }
}
