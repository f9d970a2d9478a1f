//! What devices need of a machine, without knowing KVM.

use std::fmt;
use std::io;

use vmm_sys_util::eventfd::EventFd;

/// Delivers message-signalled interrupts.
pub trait MsiSink: Send + Sync + fmt::Debug {
    /// Writes `data` to `address`, as a device would.
    fn send(&self, address: u64, data: u32);
}

/// Turns the guest's writes to an address into events, without leaving the kernel.
pub trait IoEvents: Send + Sync + fmt::Debug {
    /// Signals `event` for each write to `address`, of any width, from now on.
    ///
    /// # Errors
    /// If KVM refuses; the write then still reaches the device's registers.
    fn attach(&self, event: &EventFd, address: u64) -> io::Result<()>;
    /// Ends [`attach`](Self::attach).
    fn detach(&self, event: &EventFd, address: u64);
}
