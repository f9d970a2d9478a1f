//! Why a machine cannot be started.

use vm_memory::GuestMemoryError;

use crate::arch::host::boot::BootError;
use crate::bus::RangeError;
use crate::disk::OpenError;
use crate::kvm::KvmError;
use crate::memory::MemoryError;
use crate::net::NetworkError;
use crate::pci::PciError;
use crate::vcpu::VcpuError;

/// Why a machine cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`MemoryError`].
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// See [`KvmError`].
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// See [`VcpuError`].
    #[error(transparent)]
    Vcpu(#[from] VcpuError),
    /// See [`BootError`].
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A disk cannot be used.
    #[error("cannot use disk {index} of the machine")]
    Disk {
        /// Its place in [`Config::disks`](super::Config::disks).
        index: usize,
        /// Which of its files, and why.
        #[source]
        source: OpenError,
    },
    /// See [`PciError`].
    #[error(transparent)]
    Pci(#[from] PciError),
    /// See [`NetworkError`].
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The host has no event descriptor left.
    #[error("cannot make the console")]
    Console(#[source] std::io::Error),
    /// Two devices claim one address.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The tables that describe the machine do not fit.
    #[error("cannot write the tables that describe the machine")]
    Tables(#[source] GuestMemoryError),
    /// The host refuses a thread.
    #[error("cannot start a thread for the machine")]
    Thread(#[source] std::io::Error),
}
