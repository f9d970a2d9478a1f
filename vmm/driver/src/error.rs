//! What a driver can do wrong by mistake.

use vm_memory::GuestMemoryError;

/// Why a queue could not be set up or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The size is no power of two up to 32768 (virtio 1.2, section 2.7).
    #[error("a queue of {0} entries: not a power of two up to 32768")]
    Size(u16),
    /// The descriptor table would not be aligned to 16 bytes (virtio 1.2, section 2.7).
    #[error("a descriptor table at {0:#x}: not aligned to 16 bytes")]
    Alignment(u64),
    /// A chain needs at least one buffer.
    #[error("a chain without buffers")]
    EmptyChain,
    /// The chain needs more descriptors than are free. Collect used chains first.
    #[error("a chain of {needed} buffers, but {free} descriptors are free")]
    Full {
        /// Descriptors that the chain needs.
        needed: usize,
        /// Descriptors that are neither in a chain nor waiting to be collected.
        free: usize,
    },
    /// The device's queue cannot be set up.
    #[error("cannot set up the device's queue")]
    Device(#[from] virtio_queue::Error),
    /// A ring or a table is not in guest memory.
    #[error("a ring is not in guest memory")]
    Memory(#[from] GuestMemoryError),
}
