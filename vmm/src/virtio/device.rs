//! What a device is to the transport.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use boxbuild_virtiofs::Traffic;

use super::config::DeviceConfig;
use super::failure_sink::FailureSink;
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::kind::Kind;
use super::queue::ActiveQueue;
use crate::memory::GuestRam;

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
    pub failures: FailureSink,
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
