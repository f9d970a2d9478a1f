//! What a machine is made of.

use std::fs::File;

/// A machine that shall run once.
#[derive(Debug)]
pub struct Config {
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Number of CPUs.
    pub cpus: u32,
    /// A bzImage, or the ELF file inside one.
    pub kernel: File,
    /// Initial ramdisk.
    pub initrd: Option<File>,
    /// Kernel command line.
    pub cmdline: String,
}
