//! Why this host's KVM cannot run a kernel.

use vm_memory::GuestMemoryError;

use crate::kvm::KvmError;
use crate::memory::MemoryError;
use crate::vcpu::VcpuError;

/// Why this host's KVM cannot run a kernel.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be opened, or lacks something.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// No room for a machine.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// No room for a CPU.
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// The guest did not get to its end.
    #[error("/dev/kvm is there but cannot run a kernel: it fails to {step} ({how})")]
    Fails {
        /// What the guest was doing.
        step: &'static str,
        /// How it ended.
        how: String,
    },
    /// It came to its end with wrong results.
    #[error("/dev/kvm is there but computes wrongly: {0:x?}")]
    Wrong(Vec<u64>),
    /// The guest's memory is not accessible.
    #[error("cannot reach the memory of a guest")]
    Access(#[from] GuestMemoryError),
}
