//! Nothing can be booted.

use std::convert::Infallible;
use std::fs::File;

use vm_memory::GuestMemoryError;

use crate::memory::GuestRam;

/// Why a guest cannot be booted: it never comes to that.
#[derive(Debug, thiserror::Error)]
pub enum BootError {}

#[derive(Debug, Clone, Copy)]
pub struct Tables(Infallible);

/// See the other architectures.
#[derive(Debug)]
pub struct Boot<'a> {
    pub kernel: &'a mut File,
    pub initrd: Option<&'a File>,
    pub cmdline: &'a str,
    pub tables: Tables,
}

pub fn write_tables(_ram: &GuestRam, _cpus: u32) -> Result<Tables, GuestMemoryError> {
    Err(GuestMemoryError::InvalidBackendAddress)
}

pub fn load(_ram: &GuestRam, boot: Boot<'_>) -> Result<u64, BootError> {
    match boot.tables.0 {}
}
