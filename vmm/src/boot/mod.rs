//! Puts a kernel, its initial ramdisk and its command line into the guest's memory, by the
//! 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).
//!
//! A kernel may be a bzImage, which unpacks itself, or the ELF file inside one, which starts
//! at once. Both are entered in 64-bit mode with `struct boot_params` in rsi.

mod kernel;
mod params;

use std::fs::File;
use std::io::{self, Seek};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError};

use crate::layout;
use crate::memory::GuestRam;

/// Why a guest cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel file cannot be read.
    #[error("cannot read the kernel")]
    KernelFile(#[source] io::Error),
    /// It is neither a bzImage nor an ELF file.
    #[error("the kernel is neither a bzImage nor an ELF file")]
    Format,
    /// It is one, but damaged, or does not fit into the memory.
    #[error("cannot load the kernel: {0}")]
    Load(linux_loader::loader::Error),
    /// No `XLF_KERNEL_64`: a 32-bit kernel, or older than Linux 3.8.
    #[error("the kernel has no 64-bit entry point")]
    Not64Bit,
    /// It needs more room to unpack itself.
    #[error("the kernel needs {need} MiB of memory, the guest has {have}")]
    Memory {
        /// MiB that it asks for.
        need: u64,
        /// MiB below the hole for devices.
        have: u64,
    },
    /// The command line is longer than the kernel takes.
    #[error("the kernel command line has {length} bytes, but this kernel takes at most {limit}")]
    Cmdline {
        /// Its length in bytes.
        length: usize,
        /// The limit, without the final NUL.
        limit: u64,
    },
    /// The kernel would see another command line than the one given.
    #[error("the kernel command line has a NUL in it")]
    CmdlineNul,
    /// The ramdisk cannot be read.
    #[error("cannot read the initial ramdisk")]
    InitrdFile(#[source] io::Error),
    /// The ramdisk does not fit.
    #[error(
        "the initial ramdisk of {size} bytes does not fit behind the kernel: {room} bytes are free"
    )]
    InitrdRoom {
        /// Its size.
        size: u64,
        /// What is left.
        room: u64,
    },
    /// Guest memory, at an address of ours.
    #[error("cannot write into the guest's memory")]
    Write(#[from] GuestMemoryError),
    /// No random numbers for the guest's kernel.
    #[error("cannot get random numbers")]
    Random(#[source] io::Error),
}

/// What to boot.
#[derive(Debug)]
pub struct Boot<'a> {
    /// A bzImage or an ELF file.
    pub kernel: &'a mut File,
    /// Archive for the initial root file system.
    pub initrd: Option<&'a mut File>,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// Guest address of the ACPI root pointer.
    pub rsdp: u64,
}

/// Loads everything. Returns the guest address at which the first CPU starts, in 64-bit mode
/// with [`layout::BOOT_PARAMS`] in rsi.
///
/// # Errors
/// If something cannot be read, is not what it should be, or does not fit.
pub fn load(ram: &GuestRam, boot: Boot<'_>) -> Result<u64, BootError> {
    let kernel = kernel::load(ram, boot.kernel)?;
    write_cmdline(ram, boot.cmdline, kernel.cmdline_limit)?;
    let initrd = match boot.initrd {
        Some(file) => Some(load_initrd(ram, file, &kernel)?),
        None => None,
    };
    params::write(ram, &kernel, boot.cmdline.len(), initrd, boot.rsdp)?;
    Ok(kernel.entry)
}

/// A part of guest memory.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: u64,
    len: u64,
}

/// First address behind the RAM that starts at 0.
fn low_end(ram: &GuestRam) -> u64 {
    use vm_memory::GuestMemoryRegion;
    ram.find_region(GuestAddress(0))
        .map_or(0, GuestMemoryRegion::len)
}

fn write_cmdline(ram: &GuestRam, cmdline: &str, limit: u64) -> Result<(), BootError> {
    let limit = limit.min(layout::CMDLINE_MAX - 1);
    if cmdline.len() as u64 > limit {
        return Err(BootError::Cmdline {
            length: cmdline.len(),
            limit,
        });
    }
    if cmdline.contains('\0') {
        return Err(BootError::CmdlineNul);
    }
    // The memory is new: a NUL follows.
    Ok(ram.write_slice(cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?)
}

/// Loads the ramdisk as high as the kernel allows, out of the way of its unpacking.
fn load_initrd(
    ram: &GuestRam,
    file: &mut File,
    kernel: &kernel::Loaded,
) -> Result<Extent, BootError> {
    const PAGE: u64 = 4096;
    let len = file.metadata().map_err(BootError::InitrdFile)?.len();
    file.rewind().map_err(BootError::InitrdFile)?;
    let top = low_end(ram).min(kernel.initrd_max.saturating_add(1)) & !(PAGE - 1);
    let start = top.saturating_sub(len) & !(PAGE - 1);
    if len > top || start < kernel.end {
        return Err(BootError::InitrdRoom {
            size: len,
            room: top.saturating_sub(kernel.end),
        });
    }
    read_into(ram, start, file, len).map_err(BootError::InitrdFile)?;
    Ok(Extent { start, len })
}

/// Reads `len` bytes of `file` from where it stands to `address`.
fn read_into(ram: &GuestRam, address: u64, file: &mut File, len: u64) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    ram.read_exact_volatile_from(GuestAddress(address), file, len)
        .map_err(|error| match error {
            GuestMemoryError::IOError(error) => error,
            other => io::Error::other(other),
        })
}

#[cfg(test)]
mod tests;
