//! What booting has in common on all architectures: what is booted, why it cannot be, and how the
//! ramdisk and the command line are checked.

mod error;
mod files;

use std::fs::File;

pub use error::BootError;
pub(crate) use files::{InitrdRange, check_cmdline, load_initrd, read_start};

/// What to boot.
#[derive(Debug)]
pub struct Boot<'a, T> {
    /// A kernel in one of the architecture's formats.
    pub kernel: &'a mut File,
    /// Archive for the initial root file system.
    pub initrd: Option<&'a File>,
    /// Kernel command line.
    pub cmdline: &'a str,
    /// What the architecture's `write_tables` returned.
    pub tables: T,
}
