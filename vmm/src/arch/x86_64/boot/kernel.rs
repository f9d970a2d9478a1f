//! Loads the kernel itself.

use std::fs::File;

use linux_loader::loader::bootparam::{XLF_KERNEL_64, setup_header};
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::arch::boot::{BootError, read_start};
use crate::arch::x86_64::layout;
use crate::memory::{GuestRam, read_from_file};

/// A kernel in memory.
#[derive(Debug)]
pub(super) struct LoadedKernel {
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

/// First address behind the RAM that starts at 0.
pub(super) fn low_end(ram: &GuestRam) -> u64 {
    ram.find_region(GuestAddress(0))
        .map_or(0, GuestMemoryRegion::len)
}

pub(super) fn load(ram: &GuestRam, file: &mut File) -> Result<LoadedKernel, BootError> {
    let start = read_start(file, ELF_START).map_err(BootError::KernelFile)?;
    if start.starts_with(b"\x7fELF") {
        elf(ram, file, &start)
    } else {
        bzimage(ram, file)
    }
}

/// Bytes of the ELF header, and of the start of the file in which the program headers lie.
const ELF_HEADER: usize = 64;
const ELF_START: usize = 4096;
/// Bytes of a program header.
const PROGRAM_HEADER: usize = 56;
/// `p_type` of a segment that is loaded.
const PT_LOAD: u64 = 1;
/// `e_machine`: x86-64.
const EM_X86_64: u64 = 62;

/// A little-endian number of `N` bytes at `at`.
fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(N)?)?;
    Some(
        field
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

/// A segment: where it is in the file, where in memory, how long it is there.
struct Segment {
    offset: u64,
    address: u64,
    file_len: u64,
    memory_len: u64,
}

/// The entry point and the segments that are loaded (ELF-64 Object File Format, version 1.5).
fn elf_headers(start: &[u8]) -> Option<(u64, Vec<Segment>)> {
    // 64 bit, little endian.
    let right = start.get(4..6)? == [2, 1]
        && number::<2>(start, 18)? == EM_X86_64
        && number::<2>(start, 54)? == PROGRAM_HEADER as u64;
    let (table, count) = (number::<8>(start, 32)?, number::<2>(start, 56)?);
    let table = usize::try_from(table)
        .ok()
        .filter(|&at| right && at >= ELF_HEADER)?;
    let headers = start.get(table..)?.chunks_exact(PROGRAM_HEADER);
    if (headers.len() as u64) < count {
        return None;
    }
    let mut segments = Vec::new();
    for header in headers.take(count as usize) {
        if number::<4>(header, 0)? == PT_LOAD {
            segments.push(Segment {
                offset: number::<8>(header, 8)?,
                address: number::<8>(header, 24)?,
                file_len: number::<8>(header, 32)?,
                memory_len: number::<8>(header, 40)?,
            });
        }
    }
    Some((number::<8>(start, 24)?, segments))
}

/// The kernel proper: `startup_64` at the ELF entry point, which is a physical address.
fn elf(ram: &GuestRam, file: &File, start: &[u8]) -> Result<LoadedKernel, BootError> {
    let (entry, segments) = elf_headers(start).ok_or(BootError::Format)?;
    let mut end = 0;
    for segment in &segments {
        let len = segment.memory_len.max(segment.file_len);
        let segment_end = segment.address.checked_add(len).ok_or(BootError::Format)?;
        if segment.address < layout::HIGH_RAM {
            return Err(BootError::Format);
        }
        end = end.max(segment_end.saturating_add(SLACK));
    }
    if !segments.iter().any(|segment| {
        (segment.address..segment.address.saturating_add(segment.file_len)).contains(&entry)
    }) {
        return Err(BootError::Format);
    }
    enough(ram, end)?;
    for segment in &segments {
        let place = (segment.address, segment.file_len);
        read_from_file(ram, place, file, segment.offset).map_err(BootError::KernelFile)?;
    }
    Ok(LoadedKernel {
        entry,
        end,
        initrd_max: INITRD_MAX,
        cmdline_limit: CMDLINE_LIMIT,
        header: None,
    })
}

/// A kernel that unpacks itself from where it is loaded.
fn bzimage(ram: &GuestRam, file: &mut File) -> Result<LoadedKernel, BootError> {
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
    Ok(LoadedKernel {
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
