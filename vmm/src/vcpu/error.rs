//! Why CPUs cannot be made or run.

use std::io;

use crate::arch::host::cpu::MAX_CPUS;
use crate::kvm::KvmError;

/// CPUs cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// A number that makes no sense.
    #[error("{0} CPUs: must be 1 to {MAX_CPUS}")]
    Count(u32),
    /// See [`KvmError`].
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The tables for the first instructions do not fit.
    #[error("cannot write the boot tables")]
    Tables(#[source] vm_memory::GuestMemoryError),
    /// The host has no room for threads.
    #[error("cannot start a thread for a CPU")]
    Thread(#[source] io::Error),
}
