//! Why CPUs cannot be made or run.

use std::io;

use crate::arch::host::cpu::MAX_CPUS;
use crate::kvm::KvmError;

/// Why CPUs cannot be made or run.
#[derive(Debug, thiserror::Error)]
pub enum VcpuError {
    /// The number is out of range.
    #[error("{0} CPUs: must be 1 to {MAX_CPUS}")]
    Count(u32),
    /// See [`KvmError`].
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// The tables for the first instructions do not fit.
    #[error("cannot write the boot tables")]
    Tables(#[source] vm_memory::GuestMemoryError),
    /// The host refuses a thread.
    #[error("cannot start a thread for a CPU")]
    Thread(#[source] io::Error),
}
