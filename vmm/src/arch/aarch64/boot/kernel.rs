//! Loads the kernel itself: an `Image`, packed or not.

use std::fs::File;
use std::io::{Cursor, Read, Seek};

use linux_loader::loader::{Error, KernelLoader, PE, pe};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion, ReadVolatile};

use super::packed;
use crate::arch::aarch64::layout;
use crate::arch::boot::{BootError, read_start};
use crate::memory::GuestRam;

/// A kernel in memory.
#[derive(Debug)]
pub(super) struct LoadedKernel {
    /// Where the first CPU starts.
    pub(super) entry: u64,
    /// End of what it occupies before it reads its memory map.
    pub(super) end: u64,
}

/// Bytes of the header (booting.rst, section 4).
const HEADER: usize = 64;
/// `magic`, at byte 56.
const MAGIC: &[u8] = b"ARM\x64";
/// Bit of `flags`: the kernel is big-endian.
const BIG_ENDIAN: u64 = 1;
/// `text_offset` of a kernel before Linux 3.17, which does not say its size.
const OLD_OFFSET: u64 = 0x8_0000;

pub(super) fn load(ram: &GuestRam, file: &mut File) -> Result<LoadedKernel, BootError> {
    let start = read_start(file, HEADER).map_err(BootError::KernelFile)?;
    match packed::recognize(&start)? {
        Some(packed) => {
            // What is larger than all memory is no kernel that could be loaded.
            let most = ram.iter().map(GuestMemoryRegion::len).sum();
            let image = packed.unpack(file, most)?;
            let len = image.len() as u64;
            let header = image
                .get(..HEADER.min(image.len()))
                .unwrap_or_default()
                .to_vec();
            image_file(ram, &header, len, &mut Cursor::new(image))
        }
        None => {
            let len = file.metadata().map_err(BootError::KernelFile)?.len();
            image_file(ram, &start, len, file)
        }
    }
}

/// Loads an Image of `len` bytes that begins with `header`.
fn image_file<F: Read + ReadVolatile + Seek>(
    ram: &GuestRam,
    header: &[u8],
    len: u64,
    file: &mut F,
) -> Result<LoadedKernel, BootError> {
    if header.len() < HEADER {
        return Err(BootError::Format);
    }
    let number = |at: usize| {
        let field = header.get(at..at + 8)?;
        field.try_into().ok().map(u64::from_le_bytes)
    };
    let (Some(offset), Some(size), Some(flags)) = (number(8), number(16), number(24)) else {
        return Err(BootError::Format);
    };
    if header.get(56..60) != Some(MAGIC) || flags & BIG_ENDIAN != 0 {
        return Err(BootError::Format);
    }
    let offset = if size == 0 { OLD_OFFSET } else { offset };
    let load = layout::KERNEL
        .checked_add(offset)
        .ok_or(BootError::Format)?;
    let end = load.checked_add(size.max(len)).ok_or(BootError::Format)?;
    enough(ram, end)?;
    let loaded = PE::load(ram, Some(GuestAddress(layout::KERNEL)), file, None);
    let loaded = loaded.map_err(|error| match error {
        Error::Pe(pe::Error::InvalidImageMagicNumber) => BootError::Format,
        other => BootError::Load(other),
    })?;
    Ok(LoadedKernel {
        entry: loaded.kernel_load.0,
        end,
    })
}

fn enough(ram: &GuestRam, end: u64) -> Result<(), BootError> {
    let have = ram
        .find_region(GuestAddress(layout::RAM))
        .map_or(0, GuestMemoryRegion::len);
    let need = end.saturating_sub(layout::RAM);
    if need > have {
        return Err(BootError::Memory {
            need: need.div_ceil(1 << 20),
            have: have >> 20,
        });
    }
    Ok(())
}
