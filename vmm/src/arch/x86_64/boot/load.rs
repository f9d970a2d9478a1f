//! Puts everything that a guest needs for its start into its memory.

use std::fs::File;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::kernel::{self, LoadedKernel, low_end};
use super::params;
use crate::arch::boot::{self, BootError, InitrdRange};
use crate::arch::x86_64::acpi;
use crate::arch::x86_64::layout;
use crate::arch::x86_64::legacy::power;
use crate::memory::GuestRam;

/// The tables that describe the machine to its kernel.
#[derive(Debug, Clone, Copy)]
pub struct Tables {
    /// Guest address of the ACPI root pointer.
    pub(super) rsdp: u64,
}

/// Writes the ACPI tables of a machine with `cpus` CPUs, and what a reset in real mode executes.
///
/// # Errors
/// If they do not fit.
pub fn write_tables(ram: &GuestRam, cpus: u32) -> Result<Tables, GuestMemoryError> {
    let rsdp = acpi::write(ram, u8::try_from(cpus).unwrap_or(u8::MAX))?;
    ram.write_slice(&power::RESET_CODE, GuestAddress(layout::RESET_VECTOR))?;
    Ok(Tables { rsdp })
}

/// What to boot.
pub type Boot<'a> = boot::Boot<'a, Tables>;

/// The guest address at which the first CPU starts.
pub type Entry = u64;

/// Loads everything. Returns the guest address at which the first CPU starts, in 64-bit mode
/// with [`layout::BOOT_PARAMS`] in rsi.
///
/// # Errors
/// If something cannot be read, is not what it should be, or does not fit.
pub fn load(ram: &GuestRam, boot: Boot<'_>) -> Result<Entry, BootError> {
    let Boot {
        kernel,
        initrd,
        cmdline,
        tables,
    } = boot;
    let kernel = kernel::load(ram, kernel)?;
    write_cmdline(ram, cmdline, kernel.cmdline_limit)?;
    let initrd = match initrd {
        Some(file) => Some(load_initrd(ram, file, &kernel)?),
        None => None,
    };
    params::write(ram, &kernel, cmdline.len(), initrd, tables.rsdp)?;
    Ok(kernel.entry)
}

fn write_cmdline(ram: &GuestRam, cmdline: &str, limit: u64) -> Result<(), BootError> {
    boot::check_cmdline(cmdline, limit.min(layout::CMDLINE_MAX - 1))?;
    // The memory is new: a NUL follows.
    Ok(ram.write_slice(cmdline.as_bytes(), GuestAddress(layout::CMDLINE))?)
}

/// Loads the ramdisk as high as the kernel allows.
fn load_initrd(
    ram: &GuestRam,
    file: &File,
    kernel: &LoadedKernel,
) -> Result<InitrdRange, BootError> {
    let top = low_end(ram).min(kernel.initrd_max.saturating_add(1));
    boot::load_initrd(ram, file, kernel.end..top)
}

#[cfg(test)]
mod tests;
