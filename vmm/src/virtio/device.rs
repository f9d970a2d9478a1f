//! What a device is to the transport.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use boxbuild_virtiofs::Traffic;
use vmm_sys_util::eventfd::EventFd;

use super::config::DeviceConfig;
use super::failure_sink::FailureSink;
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::kind::Kind;
use super::queue::ActiveQueue;
use super::stop_flag::StopFlag;
use crate::memory::GuestRam;
use crate::threads::Threads;

/// What a device gets when its driver activates it.
#[derive(Debug)]
pub struct Context {
    /// The guest's memory.
    pub ram: GuestRam,
    /// Features that driver and device have agreed on.
    pub features: u64,
    /// The queues that the driver enabled, by their number.
    pub queues: Vec<Option<ActiveQueue>>,
    /// Interrupts the driver.
    pub interrupt: Interrupt,
    /// Ends the machine when the device cannot go on.
    pub failures: FailureSink,
    /// Raised when the device shall stop; its queues have it, too.
    pub stop: StopFlag,
    /// Confines further threads of the device.
    pub threads: Threads,
}

/// A virtio device.
///
/// Everything below [`activate`](Self::activate) is called on a thread that the device has for
/// itself from one activation to the next reset.
pub trait Device: Send + fmt::Debug {
    /// Returns its kind.
    fn kind(&self) -> Kind;

    /// Returns the features of its kind that it offers; the transport adds those of rings.
    fn features(&self) -> u64 {
        0
    }

    /// Returns the largest size of each of its queues, powers of two.
    fn queue_sizes(&self) -> Vec<u16>;

    /// Returns the counters of what the guest moves through it; a device that counts nothing
    /// returns a new [`Traffic`].
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// Returns its configuration space.
    fn config(&self) -> Arc<DeviceConfig>;

    /// Returns what wakes its thread apart from the queues, by being readable until
    /// [`woken`](Self::woken) has done what there was to do.
    fn wakeup(&self) -> Option<OwnedFd> {
        None
    }

    /// The driver is ready. A device may take queues out of the context and serve them itself
    /// ([`QueueThread`](super::QueueThread)), until [`deactivate`](Self::deactivate). Nothing in the
    /// queues is looked at here: the thread is locked to its system calls behind it only.
    ///
    /// # Errors
    /// If the device cannot work; it then needs a reset.
    fn activate(&mut self, context: &mut Context) -> Result<(), Fault> {
        let _ = context;
        Ok(())
    }

    /// Returns the number and a copy of the event of a queue that the device has taken out of the context,
    /// and serves on its own thread all the same.
    fn shared_queue(&self) -> Option<(usize, EventFd)> {
        None
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

    /// Stops the device: it does not touch the guest's memory and the queues any more when this
    /// returns.
    fn deactivate(&mut self) {}

    /// The driver has put something into queue `index`, or has it looked at. What the driver makes
    /// of one chain may be long: work on more than a few MiB looks at [`Context::stop`] in between.
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
