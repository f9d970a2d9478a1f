//! One virtqueue with its notifications.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use boxbuild_vmm_driver::{DriverQueue, Error, QueueLayout, Used};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

/// Entries of a queue; a power of two.
pub(crate) const SIZE: u16 = 1024;

/// Guest memory that one queue takes, in bytes: whole pages.
pub(crate) const BYTES: u64 = QueueLayout::bytes(SIZE).next_multiple_of(4096);

/// One split virtqueue of the driver, with the events of a vhost-user connection.
///
/// Panics where a test would fail anyway: if a queue is not in guest memory, or an event cannot
/// be used.
#[derive(Debug)]
pub struct Ring {
    queue: DriverQueue,
    kick: EventFd,
    call: EventFd,
}

const IN_MEMORY: &str = "the queue is in guest memory";

impl Ring {
    pub(crate) fn new(base: u64, event_idx: bool) -> io::Result<Self> {
        let layout = QueueLayout::new(GuestAddress(base), SIZE).map_err(io::Error::other)?;
        let mut queue = DriverQueue::new(layout);
        if event_idx {
            queue = queue.with_event_idx();
        }
        Ok(Self {
            queue,
            kick: EventFd::new(libc::EFD_CLOEXEC)?,
            call: EventFd::new(libc::EFD_CLOEXEC)?,
        })
    }

    /// Returns the event that notifies the device, and the one that the device signals.
    pub(crate) fn events(&self) -> (&EventFd, &EventFd) {
        (&self.kick, &self.call)
    }

    /// Returns the queue.
    pub fn queue(&self) -> &DriverQueue {
        &self.queue
    }

    /// Makes the chain that begins at descriptor `head` available, and notifies the device if it
    /// wants that.
    ///
    /// # Panics
    /// If the queue is not in guest memory, or the device cannot be notified.
    pub fn submit(&mut self, memory: &GuestMemoryMmap, head: u16) {
        let wanted = self
            .queue
            .publish(memory, head)
            .and_then(|()| self.queue.needs_notification(memory))
            .expect(IN_MEMORY);
        if wanted {
            self.notify();
        }
    }

    /// Makes a chain available without a notification.
    ///
    /// # Panics
    /// If the queue is not in guest memory.
    pub(crate) fn publish(&mut self, memory: &GuestMemoryMmap, head: u16) {
        self.queue.publish(memory, head).expect(IN_MEMORY);
    }

    /// Notifies the device, whether it wants that or not.
    ///
    /// # Panics
    /// If the device cannot be notified.
    pub fn notify(&self) {
        self.kick.write(1).expect("the device can be notified");
    }

    /// Waits for the next chain that the device has used; `None` if there is none within
    /// `timeout`, which starts again with each signal of the device.
    ///
    /// # Panics
    /// If the queue is not in guest memory, or the device's event cannot be read.
    pub fn wait(&mut self, memory: &GuestMemoryMmap, timeout: Option<Duration>) -> Option<Used> {
        loop {
            if let Some(used) = self.take(memory) {
                return Some(used);
            }
            if self.queue.enable_interrupts(memory).expect(IN_MEMORY) {
                continue;
            }
            if let Some(timeout) = timeout {
                let limit = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
                // SAFETY: the event owns its descriptor and outlives the borrow.
                let call = unsafe { BorrowedFd::borrow_raw(self.call.as_raw_fd()) };
                let mut waited = [PollFd::new(call, PollFlags::POLLIN)];
                if poll(&mut waited, limit).is_ok_and(|ready| ready == 0) {
                    return self.take(memory);
                }
            }
            self.call.read().expect("the device can signal");
        }
    }

    /// Returns the next chain that the device has used, if there is one already.
    ///
    /// # Panics
    /// If the queue is not in guest memory.
    pub fn take(&mut self, memory: &GuestMemoryMmap) -> Option<Used> {
        self.queue.next_used(memory).expect(IN_MEMORY)
    }

    /// Writes the request in `buffers` as an indirect table at `table`, with `head` leading there.
    pub(crate) fn write(
        &self,
        memory: &GuestMemoryMmap,
        head: u16,
        table: GuestAddress,
        buffers: &[boxbuild_vmm_driver::Buffer],
    ) -> Result<(), Error> {
        self.queue
            .write_indirect_chain(memory, head, table, buffers)
    }
}
