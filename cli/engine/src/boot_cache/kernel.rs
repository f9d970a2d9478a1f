//! The ELF file inside of a distribution's bzImage, or the Image of arm64 that it packed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use boxbuild_firmware::kernel::arm64;
use boxbuild_host::input;

use super::cache::{Cache, CacheError};

/// Larger than any kernel with all its drivers built in, in bytes.
const LARGEST: u64 = 256 << 20;

/// A kernel to boot.
#[derive(Debug)]
pub struct Opened {
    /// bzImage or ELF; of arm64 an Image, packed or not.
    pub file: File,
    /// What the user should know.
    pub note: Option<String>,
}

/// What was packed.
struct Unpacked {
    file: File,
    /// Whether QEMU can start it.
    has_pvh_entry: bool,
}

/// Opens the kernel `path`, whose content has the hash `sha256`, or rather what is packed into
/// it. Where that does not work, the packed one boots as well, with a note.
///
/// # Errors
/// Fails if the kernel itself cannot be opened.
pub fn open(path: &Path, sha256: &str) -> io::Result<Opened> {
    let packed = input::open(path)?;
    if is_plain(&packed) {
        return Ok(Opened {
            file: packed,
            note: None,
        });
    }
    Ok(match unpacked(&packed, sha256) {
        Ok(unpacked) => Opened {
            file: unpacked.file,
            note: None,
        },
        Err(error) => Opened {
            file: input::open(path)?,
            note: Some(format!(
                "the kernel {} is unpacked in the box, which takes longer: {error}",
                path.display()
            )),
        },
    })
}

/// Whether it is an Image of arm64 that nothing packed.
fn is_plain(kernel: &File) -> bool {
    let mut start = [0; 64];
    kernel.read_exact_at(&mut start, 0).is_ok() && arm64::is_image(&start)
}

/// The same for QEMU, which boots an ELF file only if it has an entry for that.
///
/// # Errors
/// Fails if the kernel itself cannot be opened.
pub fn open_for_qemu(path: &Path, sha256: &str) -> io::Result<File> {
    let packed = input::open(path)?;
    match unpacked(&packed, sha256) {
        Ok(unpacked) if unpacked.has_pvh_entry => Ok(unpacked.file),
        _ => input::open(path),
    }
}

fn unpacked(packed: &File, sha256: &str) -> Result<Unpacked, CacheError> {
    let cache = Cache::of_user("kernels")?;
    // Whether QEMU can start it is looked at once.
    let name = |has_pvh_entry| match has_pvh_entry {
        true => format!("{sha256}.pvh.elf"),
        false => format!("{sha256}.plain.elf"),
    };
    for has_pvh_entry in [true, false] {
        if let Some(file) = cache.open(&name(has_pvh_entry)) {
            return Ok(Unpacked {
                file,
                has_pvh_entry,
            });
        }
    }
    let refusal = format!("{sha256}.refused");
    let mut has_pvh_entry = false;
    let file = cache.make(packed, LARGEST, sha256, &refusal, |parser, packed, out| {
        has_pvh_entry = parser.kernel(packed, out)?;
        Ok(Some(name(has_pvh_entry)))
    })?;
    Ok(Unpacked {
        file,
        has_pvh_entry,
    })
}
