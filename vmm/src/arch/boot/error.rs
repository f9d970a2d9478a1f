//! Why a guest cannot be booted.

use std::io;

use vm_memory::GuestMemoryError;

/// What a file is that is no kernel of this architecture.
#[cfg(not(target_arch = "aarch64"))]
const NO_KERNEL: &str = "neither a bzImage nor an ELF file";
#[cfg(target_arch = "aarch64")]
const NO_KERNEL: &str = "not an arm64 Image";

/// Why a guest cannot be booted.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The kernel file cannot be read.
    #[error("cannot read the kernel")]
    KernelFile(#[source] io::Error),
    /// It is in no format of this architecture.
    #[error("the kernel is {NO_KERNEL}")]
    Format,
    /// It is packed, but not in a way that is known here.
    #[error("the kernel is packed with {0}, which is not known: gzip and zstd are")]
    Packed(String),
    /// What it is packed in is damaged.
    #[error("cannot unpack the kernel")]
    Unpack(#[source] io::Error),
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
        /// MiB of the first range of RAM.
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
    /// An address of the architecture's layout is not in guest memory.
    #[error("cannot write into the guest's memory")]
    Write(#[from] GuestMemoryError),
    /// No random numbers for the guest's kernel.
    #[error("cannot get random numbers")]
    Random(#[source] io::Error),
}
