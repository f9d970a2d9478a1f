//! Loads the kernel itself.

use std::fs::File;
use std::io::{Read, Seek};

use linux_loader::loader::bootparam::{XLF_KERNEL_64, setup_header};
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use vm_memory::GuestAddress;

use super::{BootError, low_end};
use crate::layout;
use crate::memory::GuestRam;

/// A kernel in memory.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Where the first CPU starts.
    pub(super) entry: u64,
    /// End of what it occupies, unpacked.
    pub(super) end: u64,
    /// Highest address that the ramdisk may occupy.
    pub(super) initrd_max: u64,
    /// Longest command line in bytes, without the final NUL.
    pub(super) cmdline_limit: u64,
    /// The header of a bzImage.
    pub(super) header: Option<setup_header>,
}

/// The 64-bit entry lies this far behind the start of a bzImage's protected-mode part.
const ENTRY_64: u64 = 0x200;
/// What the kernel says of itself in `cmdline_size`, for an ELF file that does not: x86's
/// COMMAND_LINE_SIZE is 2048, with the final NUL.
const CMDLINE_LIMIT: u64 = 2047;
/// What bzImages say in `initrd_addr_max`.
const INITRD_MAX: u64 = 0x7fff_ffff;
/// A kernel that was loaded from an ELF file allocates behind its end before it knows where
/// the ramdisk is: page tables, `brk` area.
const SLACK: u64 = 2 << 20;

pub(super) fn load(ram: &GuestRam, file: &mut File) -> Result<Loaded, BootError> {
    let mut magic = [0; 4];
    file.rewind()
        .and_then(|()| file.read_exact(&mut magic))
        .map_err(BootError::KernelFile)?;
    if magic == *b"\x7fELF" {
        elf(ram, file)
    } else {
        bzimage(ram, file)
    }
}

/// The kernel proper: `startup_64` at the ELF entry point, which is a physical address.
fn elf(ram: &GuestRam, file: &mut File) -> Result<Loaded, BootError> {
    let high = Some(GuestAddress(layout::HIGH_RAM));
    let loaded = Elf::load(ram, None, file, high).map_err(BootError::Load)?;
    let end = loaded.kernel_end.saturating_add(SLACK);
    enough(ram, end)?;
    Ok(Loaded {
        entry: loaded.kernel_load.0,
        end,
        initrd_max: INITRD_MAX,
        cmdline_limit: CMDLINE_LIMIT,
        header: None,
    })
}

/// A kernel that unpacks itself from where it is loaded.
fn bzimage(ram: &GuestRam, file: &mut File) -> Result<Loaded, BootError> {
    let start = layout::KERNEL;
    let loaded = BzImage::load(ram, Some(GuestAddress(start)), file, None).map_err(|error| {
        use linux_loader::loader::{Error, bzimage::Error as Image};
        match error {
            Error::Bzimage(Image::InvalidBzImage | Image::ReadBzImageHeader) => BootError::Format,
            other => BootError::Load(other),
        }
    })?;
    let header = loaded.setup_header.ok_or(BootError::Format)?;
    // The 64-bit entry came with protocol 2.12, and what it needs to know before.
    if header.version < 0x20c || header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::Not64Bit);
    }
    let end = (start + u64::from(header.init_size)).max(loaded.kernel_end);
    enough(ram, end)?;
    Ok(Loaded {
        entry: start + ENTRY_64,
        end,
        initrd_max: u64::from(header.initrd_addr_max),
        cmdline_limit: u64::from(header.cmdline_size),
        header: Some(header),
    })
}

fn enough(ram: &GuestRam, end: u64) -> Result<(), BootError> {
    let have = low_end(ram);
    if end > have {
        return Err(BootError::Memory {
            need: end.div_ceil(1 << 20),
            have: have >> 20,
        });
    }
    Ok(())
}
