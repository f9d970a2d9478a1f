//! Puts a kernel, its initial ramdisk and its command line into the guest's memory, by the
//! 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).
//!
//! A kernel may be a bzImage, which unpacks itself, or the ELF file inside one, which starts
//! at once. Both are entered in 64-bit mode with `struct boot_params` in rsi.

mod kernel;
mod params;

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use vm_memory::bitmap::BitmapSlice;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, ReadVolatile, VolatileMemoryError,
    VolatileSlice,
};

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
    pub initrd: Option<&'a File>,
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
    let Boot {
        kernel,
        initrd,
        cmdline,
        rsdp,
    } = boot;
    let kernel = kernel::load(ram, kernel)?;
    write_cmdline(ram, cmdline, kernel.cmdline_limit)?;
    let initrd = match initrd {
        Some(file) => Some(load_initrd(ram, file, &kernel)?),
        None => None,
    };
    params::write(ram, &kernel, cmdline.len(), initrd, rsdp)?;
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
fn load_initrd(ram: &GuestRam, file: &File, kernel: &kernel::Loaded) -> Result<Extent, BootError> {
    const PAGE: u64 = 4096;
    let len = file.metadata().map_err(BootError::InitrdFile)?.len();
    let top = low_end(ram).min(kernel.initrd_max.saturating_add(1)) & !(PAGE - 1);
    let start = top.saturating_sub(len) & !(PAGE - 1);
    if len > top || start < kernel.end {
        return Err(BootError::InitrdRoom {
            size: len,
            room: top.saturating_sub(kernel.end),
        });
    }
    read_into(ram, (start, len), file, 0).map_err(BootError::InitrdFile)?;
    Ok(Extent { start, len })
}

/// Reads `len` bytes from `offset` of `file` to `address`.
fn read_into(
    ram: &GuestRam,
    (address, len): (u64, u64),
    file: &File,
    offset: u64,
) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut source = ReadAt { file, offset };
    ram.read_exact_volatile_from(GuestAddress(address), &mut source, len)
        .map_err(|error| match error {
            GuestMemoryError::IOError(error) => error,
            other => io::Error::other(other),
        })
}

/// A file from some offset on; what others do with its position does not matter.
struct ReadAt<'a> {
    file: &'a File,
    offset: u64,
}

impl ReadVolatile for ReadAt<'_> {
    fn read_volatile<B: BitmapSlice>(
        &mut self,
        slice: &mut VolatileSlice<'_, B>,
    ) -> Result<usize, VolatileMemoryError> {
        let guard = slice.ptr_guard_mut();
        let file = self.file.as_raw_fd();
        let offset = libc::off_t::try_from(self.offset)
            .map_err(|error| VolatileMemoryError::IOError(io::Error::other(error)))?;
        // SAFETY: the guard's range is writable memory as long as it lives; it belongs to the
        // guest, so nobody relies on what is in it.
        let read = unsafe { libc::pread(file, guard.as_ptr().cast(), slice.len(), offset) };
        // Negative: there is an error.
        let Ok(read) = usize::try_from(read) else {
            return Err(VolatileMemoryError::IOError(io::Error::last_os_error()));
        };
        slice.bitmap().mark_dirty(0, read);
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests;
