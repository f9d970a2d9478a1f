//! Virtio 1.2 devices over PCI, modern interface only.
//!
//! A device ([`Device`]) knows neither PCI nor KVM: it gets memory, queues and an interrupt
//! when the driver activates it, on a thread of its own. The transport ([`VirtioPci`]) knows
//! no device. A driver that breaks the rules finds its device in need of a reset, and nothing
//! worse happens.

pub mod balloon;
pub mod block;
mod buffers;
mod common;
mod config;
pub mod console;
mod device;
pub mod fs;
mod interrupt;
pub mod net;
mod pci;
mod queue;
mod queue_thread;
pub mod rng;
mod worker;

pub use boxbuild_virtiofs::Traffic;
pub use buffers::Buffers;
pub use config::DeviceConfig;
pub use device::{Context, Device, Failures, Fault, Kind};
pub use interrupt::Interrupt;
pub use pci::{Attachment, VirtioPci};
pub use queue::{ActiveQueue, Chain};
pub use queue_thread::QueueThread;

/// Device status bits (virtio 1.2, section 2.1).
mod status {
    pub(super) const DRIVER_OK: u8 = 4;
    pub(super) const FEATURES_OK: u8 = 8;
    pub(super) const NEEDS_RESET: u8 = 64;
}
