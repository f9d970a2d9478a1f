//! Puts a kernel, its initial ramdisk and, with its command line, the device tree into the guest's
//! memory (Linux, Documentation/arch/arm64/booting.rst).

mod kernel;
mod load;
mod packed;

pub use crate::arch::boot::BootError;
pub use load::{Boot, Entry, Tables, load, write_tables};
