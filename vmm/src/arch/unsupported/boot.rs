//! Nothing can be booted.

use std::convert::Infallible;

use vm_memory::GuestMemoryError;

use crate::arch::boot;
pub use crate::arch::boot::BootError;
use crate::memory::GuestRam;

#[derive(Debug, Clone, Copy)]
pub struct Tables(Infallible);

pub type Boot<'a> = boot::Boot<'a, Tables>;

pub type Entry = u64;

pub fn write_tables(_ram: &GuestRam, _cpus: u32) -> Result<Tables, GuestMemoryError> {
    Err(GuestMemoryError::InvalidBackendAddress)
}

pub fn load(_ram: &GuestRam, boot: Boot<'_>) -> Result<Entry, BootError> {
    match boot.tables.0 {}
}
