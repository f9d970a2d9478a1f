//! What devices need of a machine, without knowing KVM.

use std::fmt;
use std::io;

use vmm_sys_util::eventfd::EventFd;

/// A message-signalled interrupt is delivered through this.
pub trait MsiSink: Send + Sync + fmt::Debug {
    /// Writes `data` to `address`, as a device would.
    fn send(&self, address: u64, data: u32);
}

/// Turns the guest's writes to an address into events, without leaving the kernel.
pub trait IoEvents: Send + Sync + fmt::Debug {
    /// From now on a write to `address`, of any width, signals `event`.
    ///
    /// # Errors
    /// If KVM refuses; the write then still reaches the device's registers.
    fn attach(&self, event: &EventFd, address: u64) -> io::Result<()>;
    /// Ends that.
    fn detach(&self, event: &EventFd, address: u64);
}
