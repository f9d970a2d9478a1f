//! Why a device needs a reset.

use crate::guest_io::BuffersError;

/// Why a device needs a reset: its driver broke the rules, or it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A ring is inconsistent or not in guest memory.
    #[error("bad ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    /// A buffer is not in the guest's memory.
    #[error("bad buffer: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// A chain or request that the device cannot answer at all.
    #[error("bad request: {0}")]
    Request(String),
    /// The host does not allow something that the device needs.
    #[error("{0}")]
    Host(String),
}

impl From<BuffersError> for Fault {
    fn from(error: BuffersError) -> Fault {
        match error {
            BuffersError::Memory(error) => Fault::Memory(error.into()),
            short @ BuffersError::Short { .. } => Fault::Request(short.to_string()),
        }
    }
}
