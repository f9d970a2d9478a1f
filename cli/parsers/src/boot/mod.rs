//! What a fast boot needs of a box: the kernel unpacked, its drivers, and the kind of its root.

mod root;

use std::fs::File;
use std::io::{self, Read};

use boxbuild_firmware::initrd::{self, ReadError};
use boxbuild_firmware::kernel::arm64::PackedImage;
use boxbuild_firmware::kernel::{self, BzImage, ExtractError, ImageError};

pub(crate) use root::root_kind;

/// Larger than any kernel with all its drivers built in, in bytes.
pub(crate) const LARGEST_KERNEL: u64 = 256 << 20;
/// Larger than any box's initial ramdisk, in bytes.
pub(crate) const LARGEST_RAMDISK: u64 = 512 << 20;

/// A kernel cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// It is neither a bzImage nor a packed Image of arm64.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// What is in it cannot be unpacked.
    #[error(transparent)]
    Extract(#[from] ExtractError),
}

/// Returns the ELF file in a bzImage, or the Image that is packed for arm64.
pub(crate) fn kernel(packed: &[u8]) -> Result<Vec<u8>, KernelError> {
    if let Some(image) = PackedImage::parse(packed)? {
        return Ok(image.unpack()?);
    }
    Ok(BzImage::parse(packed)?.vmlinux()?)
}

/// Whether QEMU can start this ELF file.
pub(crate) fn has_pvh_entry(elf: &[u8]) -> bool {
    kernel::has_pvh_entry(|offset, length| {
        let start = usize::try_from(offset).ok()?;
        Some(elf.get(start..start.checked_add(length)?)?.to_vec())
    })
}

/// Returns what a fast boot needs of a ramdisk; `None` if that is all of it.
pub(crate) fn ramdisk(ramdisk: &[u8], root: Option<&str>) -> Result<Option<Vec<u8>>, ReadError> {
    initrd::reduce(ramdisk, root)
}

/// Reads a file of at most `largest` bytes.
pub(crate) fn whole(file: &File, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(largest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > largest {
        let text = format!("it has more than {} MiB", largest >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_named() {
        let error = kernel(b"no kernel").unwrap_err();
        assert!(error.to_string().contains("not an x86 kernel"), "{error}");
    }
}
