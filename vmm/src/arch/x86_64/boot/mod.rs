//! Puts a kernel, its initial ramdisk and its command line into the guest's memory, by the
//! 64-bit boot protocol (Linux, Documentation/arch/x86/boot.rst).
//!
//! A kernel may be a bzImage, which unpacks itself, or the ELF file inside one, which starts
//! at once. Both are entered in 64-bit mode with `struct boot_params` in rsi.

mod kernel;
mod load;
mod params;

pub use crate::arch::boot::BootError;
pub use load::{Boot, Entry, Tables, load, write_tables};
