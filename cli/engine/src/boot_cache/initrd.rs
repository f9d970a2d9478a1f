//! What boxbuild's init needs of a box's initial ramdisk, unpacked.

use std::fs::File;
use std::io;
use std::path::Path;

use boxbuild_firmware::initrd;
use boxbuild_host::input;

use super::cache::{Cache, CacheError};

/// Larger than any box's initial ramdisk, in bytes.
const LARGEST: u64 = 512 << 20;

/// Opens what a fast boot needs of the ramdisk `path`, whose content has the hash `sha256`: a
/// plain archive with the drivers of a root of the kind `root`. Where it cannot be had, that is all
/// of the ramdisk.
///
/// # Errors
/// Fails if the ramdisk itself cannot be opened.
pub fn open(path: &Path, sha256: &str, root: Option<&str>) -> io::Result<File> {
    let own = input::open(path)?;
    match reduced(&own, sha256, root) {
        Ok(file) => Ok(file),
        // The guest finds out as well what is wrong with it, if anything is.
        Err(_) => input::open(path),
    }
}

fn reduced(own: &File, sha256: &str, root: Option<&str>) -> Result<File, CacheError> {
    let cache = Cache::of_user("initrds")?;
    let name = format!("{sha256}.{}.{}", root.unwrap_or("any"), initrd::FORMAT);
    let made = format!("{name}.cpio");
    if let Some(file) = cache.open(&made) {
        return Ok(file);
    }
    let refusal = format!("{name}.refused");
    cache.make(own, LARGEST, sha256, &refusal, |parser, own, out| {
        let is_reduced = parser.ramdisk(own, root, out)?;
        Ok(is_reduced.then_some(made))
    })
}
