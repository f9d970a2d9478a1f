//! What threads are for.

use crate::virtio::Kind;

/// What a thread is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs a CPU.
    Vcpu,
    /// Serves a device, or one queue of it.
    Device(Kind),
    /// Unpacks what will be read from a disk soon.
    Unpack,
}
