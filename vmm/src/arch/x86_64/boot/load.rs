//! Puts everything that a guest needs for its start into its memory.

use std::fs::File;

use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use super::error::BootError;
use super::kernel::{self, LoadedKernel, low_end};
use super::params::{self, InitrdRange};
use crate::arch::x86_64::acpi;
use crate::arch::x86_64::layout;
use crate::arch::x86_64::legacy::power;
use crate::memory::{GuestRam, read_from_file};

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
#[derive(Debug)]
pub struct Boot<'a> {
    /// A bzImage or an ELF file.
    pub kernel: &'a mut File,
    /// Archive for the initial root file system.
    pub initrd: Option<&'a File>,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// See [`write_tables`].
    pub tables: Tables,
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
    file: &File,
    kernel: &LoadedKernel,
) -> Result<InitrdRange, BootError> {
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
    read_from_file(ram, (start, len), file, 0).map_err(BootError::InitrdFile)?;
    Ok(InitrdRange { start, len })
}

#[cfg(test)]
mod tests;
