//! What boxbuild's init needs of a box's initial ramdisk, unpacked.

use std::fs::File;
use std::io;
use std::path::Path;

use boxbuild_firmware::initrd;

use super::{folder, kept, whole};

/// Larger than any box's initial ramdisk, in bytes.
const LARGEST: u64 = 512 << 20;

/// Opens what a fast boot needs of the ramdisk `path`, whose content has the hash `sha256`: a
/// plain archive with the drivers of a root of the kind `root`. Where it cannot be had, that is all
/// of the ramdisk.
///
/// # Errors
/// Fails if the ramdisk itself cannot be opened.
pub fn open(path: &Path, sha256: &str, root: Option<&str>) -> io::Result<File> {
    let own = File::open(path)?;
    let reduced = folder("initrds").and_then(|folder| {
        let kind = root.unwrap_or("any");
        let name = format!("{sha256}.{kind}.{}.cpio", initrd::FORMAT);
        kept(&folder, &name, || reduce(&whole(&own, LARGEST)?, root))
    });
    // The guest finds out as well what is wrong with it, if anything is.
    Ok(reduced.unwrap_or(own))
}

fn reduce(ramdisk: &[u8], root: Option<&str>) -> io::Result<Vec<u8>> {
    initrd::reduce(ramdisk, root)
        .map_err(io::Error::other)?
        .ok_or_else(|| io::Error::other("it has no driver for disks"))
}
