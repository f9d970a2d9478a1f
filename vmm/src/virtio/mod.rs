//! Virtio 1.2 devices over PCI, modern interface only.
//!
//! A device ([`Device`]) knows neither PCI nor KVM: it gets memory, queues and an interrupt
//! when the driver activates it, on a thread of its own. The transport ([`VirtioPci`]) knows
//! no device. A driver that breaks the rules finds its device in need of a reset, and nothing
//! worse happens.

pub mod balloon;
pub mod block;
mod chain;
mod common;
mod config;
pub mod console;
mod device;
mod failure_sink;
mod fault;
pub mod fs;
mod interrupt;
mod kind;
pub mod net;
mod pci;
mod pieces;
mod queue;
mod queue_thread;
pub mod rng;
mod status;
mod stop_flag;
#[cfg(test)]
mod stop_tests;
mod wire;
mod worker;

pub use boxbuild_virtiofs::Traffic;
pub use chain::{Chain, split_chain};
pub use config::DeviceConfig;
pub use device::{Context, Device};
pub use failure_sink::FailureSink;
pub use fault::Fault;
pub use interrupt::Interrupt;
pub use kind::Kind;
pub use pci::{Attachment, VirtioPci};
pub use queue::ActiveQueue;
pub use queue_thread::QueueThread;
pub use stop_flag::StopFlag;
