//! Puts everything that a guest needs for its start into its memory, but for the device tree: it
//! names the interrupt controller, which this host's KVM decides on while the kernel is read.

use vm_memory::{GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion};

use super::kernel;
use crate::arch::aarch64::layout;
use crate::arch::boot::{self, BootError, InitrdRange};
use crate::memory::GuestRam;

/// The longest command line of arm64, without the final NUL (`COMMAND_LINE_SIZE`).
const CMDLINE_LIMIT: u64 = 2047;

/// The tables that describe the machine to its kernel: there are none before it is loaded.
#[derive(Debug, Clone, Copy)]
pub struct Tables;

/// What to boot.
pub type Boot<'a> = boot::Boot<'a, Tables>;

/// Where the first CPU starts, and what the device tree says of it.
#[derive(Debug)]
pub struct Entry {
    /// Guest address.
    pub(crate) address: u64,
    /// Kernel command line.
    pub(crate) cmdline: String,
    /// The ramdisk.
    pub(crate) initrd: Option<InitrdRange>,
}

/// Writes nothing.
///
/// # Errors
/// None.
pub fn write_tables(_ram: &GuestRam, _cpus: u32) -> Result<Tables, GuestMemoryError> {
    Ok(Tables)
}

/// Loads everything.
///
/// # Errors
/// If something cannot be read, is not what it should be, or does not fit.
pub fn load(ram: &GuestRam, boot: Boot<'_>) -> Result<Entry, BootError> {
    let Boot {
        kernel,
        initrd,
        cmdline,
        tables: Tables,
    } = boot;
    let kernel = kernel::load(ram, kernel)?;
    boot::check_cmdline(cmdline, CMDLINE_LIMIT)?;
    let ram_end = (ram.iter().last()).map_or(0, |ram| ram.start_addr().0 + ram.len());
    let room = kernel.end..ram_end.min(layout::INITRD_MAX);
    let initrd = initrd.map(|file| boot::load_initrd(ram, file, room));
    Ok(Entry {
        address: kernel.entry,
        cmdline: cmdline.to_owned(),
        initrd: initrd.transpose()?,
    })
}

#[cfg(test)]
mod tests;
