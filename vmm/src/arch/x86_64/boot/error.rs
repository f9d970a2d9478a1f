//! Why a guest cannot be booted.

use std::io;

use vm_memory::GuestMemoryError;

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
    /// An address of the [`layout`](crate::arch::x86_64::layout) is not in guest memory.
    #[error("cannot write into the guest's memory")]
    Write(#[from] GuestMemoryError),
    /// No random numbers for the guest's kernel.
    #[error("cannot get random numbers")]
    Random(#[source] io::Error),
}
