//! What a device is to the transport.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use boxbuild_virtiofs::Traffic;

use super::{ActiveQueue, DeviceConfig, Interrupt};
use crate::memory::GuestRam;

/// Kinds of devices (virtio 1.2, section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Network card.
    Net,
    /// Disk.
    Block,
    /// Consoles and ports.
    Console,
    /// Random numbers.
    Rng,
    /// Memory balloon.
    Balloon,
    /// File system.
    Fs,
}

impl Kind {
    /// Number of the kind.
    pub fn id(self) -> u16 {
        match self {
            Kind::Net => 1,
            Kind::Block => 2,
            Kind::Console => 3,
            Kind::Rng => 4,
            Kind::Balloon => 5,
            Kind::Fs => 26,
        }
    }

    /// PCI class (PCI Code and ID Assignment Specification; the last one is "unclassified").
    pub fn class(self) -> u32 {
        match self {
            Kind::Net => 0x02_00_00,
            Kind::Block | Kind::Fs => 0x01_80_00,
            Kind::Console => 0x07_80_00,
            Kind::Rng | Kind::Balloon => 0x00_ff_00,
        }
    }

    /// Name of the thread that serves it, at most 15 bytes.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Net => "virtio-net",
            Kind::Block => "virtio-blk",
            Kind::Console => "virtio-console",
            Kind::Rng => "virtio-rng",
            Kind::Balloon => "virtio-balloon",
            Kind::Fs => "virtio-fs",
        }
    }
}

/// The driver broke the rules, or the device cannot go on: it needs a reset.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The ring is not one.
    #[error("bad ring: {0}")]
    Ring(#[from] virtio_queue::Error),
    /// A buffer is not in the guest's memory.
    #[error("bad buffer: {0}")]
    Memory(#[from] vm_memory::GuestMemoryError),
    /// A chain or request that the device cannot answer at all.
    #[error("bad request: {0}")]
    Request(String),
    /// The host is in the way.
    #[error("{0}")]
    Host(String),
}

/// Where a device says that the machine cannot go on. Clones lead to the same place.
#[derive(Clone)]
pub struct Failures(Arc<dyn Fn(String) + Send + Sync>);

impl Failures {
    /// Calls `report` with what happened, from any thread.
    pub fn new(report: impl Fn(String) + Send + Sync + 'static) -> Failures {
        Failures(Arc::new(report))
    }

    /// The machine cannot go on.
    pub(super) fn report(&self, text: String) {
        (self.0)(text);
    }
}

impl fmt::Debug for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failures")
    }
}

/// What an active device works with.
#[derive(Debug)]
pub struct Context {
    /// The guest's memory.
    pub ram: GuestRam,
    /// Features that driver and device have agreed on.
    pub features: u64,
    /// The queues that the driver enabled, by their number.
    pub queues: Vec<Option<ActiveQueue>>,
    /// Tells the driver.
    pub interrupt: Interrupt,
    /// Tells the machine.
    pub failures: Failures,
}

/// A virtio device.
///
/// Everything below [`activate`](Self::activate) is called on a thread that the device has for
/// itself from one activation to the next reset.
pub trait Device: Send + fmt::Debug {
    /// What it is.
    fn kind(&self) -> Kind;

    /// Features of its kind that it offers; the transport adds those of rings.
    fn features(&self) -> u64 {
        0
    }

    /// Largest size of each of its queues, powers of two.
    fn queue_sizes(&self) -> Vec<u16>;

    /// What the guest moves through it. A device that moves nothing worth counting has the
    /// numbers of a new [`Traffic`].
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Its configuration space.
    fn config(&self) -> Arc<DeviceConfig>;

    /// What wakes its thread apart from the queues, by being readable until
    /// [`woken`](Self::woken) has done what there was to do.
    fn wakeup(&self) -> Option<OwnedFd> {
        None
    }

    /// The driver is ready. A device may take queues out of the context and serve them itself
    /// ([`QueueThread`](super::QueueThread)), until [`deactivate`](Self::deactivate).
    ///
    /// # Errors
    /// If the device cannot work; it then needs a reset.
    fn activate(&mut self, context: &mut Context) -> Result<(), Fault> {
        let _ = context;
        Ok(())
    }

    /// The driver resets the device, or the machine ends. What the driver put into the queues
    /// before that may not have been notified yet: here is the last look at them, for a device
    /// whose guest does not wait for an answer. Not called for a device that needs a reset.
    ///
    /// # Errors
    /// If the driver's rings are broken.
    fn stopping(&mut self, context: &mut Context) -> Result<(), Fault> {
        let _ = context;
        Ok(())
    }

    /// The device does nothing any more: the guest's memory and the queues are not touched when
    /// this returns.
    fn deactivate(&mut self) {}

    /// The driver has put something into queue `index`, or has it looked at.
    ///
    /// # Errors
    /// If the device cannot go on.
    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault>;

    /// [`wakeup`](Self::wakeup) is readable.
    ///
    /// # Errors
    /// If the device cannot go on.
    fn woken(&mut self, context: &mut Context) -> Result<(), Fault> {
        let _ = context;
        Ok(())
    }
}
