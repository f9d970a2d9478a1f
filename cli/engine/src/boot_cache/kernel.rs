//! The ELF file inside of a distribution's bzImage.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use boxbuild_firmware::kernel::{BzImage, has_pvh_entry};

use super::{folder, kept, whole};

/// Larger than any kernel with all its drivers built in, in bytes.
const LARGEST: u64 = 256 << 20;

/// A kernel to boot.
#[derive(Debug)]
pub struct Opened {
    /// bzImage or ELF.
    pub file: File,
    /// What the user should know.
    pub note: Option<String>,
}

/// Opens the kernel `path`, whose content has the hash `sha256`, or rather what is packed into
/// it. Where that does not work, the packed one boots as well, with a note.
///
/// # Errors
/// Fails if the kernel itself cannot be opened.
pub fn open(path: &Path, sha256: &str) -> io::Result<Opened> {
    let packed = File::open(path)?;
    let unpacked = folder("kernels").and_then(|folder| {
        kept(&folder, &format!("{sha256}.elf"), || {
            unpack(&whole(&packed, LARGEST)?)
        })
    });
    Ok(match unpacked {
        Ok(file) => Opened { file, note: None },
        Err(error) => Opened {
            file: packed,
            note: Some(format!(
                "the kernel {} is unpacked in the box, which takes longer: {error}",
                path.display()
            )),
        },
    })
}

/// The same for QEMU, which boots an ELF file only if it has an entry for that.
///
/// # Errors
/// Fails if the kernel itself cannot be opened.
pub fn open_for_qemu(path: &Path, sha256: &str) -> io::Result<File> {
    let opened = open(path, sha256)?;
    let read = |offset, length| {
        let mut bytes = vec![0; length];
        opened.file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    };
    if opened.note.is_none() && has_pvh_entry(read) {
        return Ok(opened.file);
    }
    File::open(path)
}

fn unpack(packed: &[u8]) -> io::Result<Vec<u8>> {
    BzImage::parse(packed)
        .map_err(io::Error::other)?
        .vmlinux()
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_named() {
        let error = unpack(b"no kernel").unwrap_err();
        assert!(error.to_string().contains("not an x86 kernel"), "{error}");
    }
}
