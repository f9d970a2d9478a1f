//! A queue that the driver has enabled.

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use super::{Fault, Interrupt};
use crate::memory::GuestRam;

/// What a driver puts into a queue: buffers to read, then buffers to write.
pub type Chain<'m> = DescriptorChain<&'m GuestRam>;

/// A queue in use.
#[derive(Debug)]
pub struct ActiveQueue {
    queue: Queue,
    index: usize,
    event: EventFd,
}

impl ActiveQueue {
    /// `queue` is number `index` of its device; `event` says that there is something in it.
    pub(crate) fn new(queue: Queue, index: usize, event: EventFd) -> ActiveQueue {
        ActiveQueue {
            queue,
            index,
            event,
        }
    }

    /// Signalled by the driver's notifications.
    pub(super) fn event(&self) -> &EventFd {
        &self.event
    }

    /// The next chain, if there is one.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn pop<'m>(&mut self, ram: &'m GuestRam) -> Result<Option<Chain<'m>>, Fault> {
        Ok(self.queue.iter(ram)?.next())
    }

    /// Puts the last chain back: it comes again.
    pub fn put_back(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Returns the chain that began at descriptor `head`, with `len` bytes written into it.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn add_used(&mut self, ram: &GuestRam, head: u16, len: u32) -> Result<(), Fault> {
        Ok(self.queue.add_used(ram, head, len)?)
    }

    /// Tells the driver about used chains, if it wants to know.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn signal(&mut self, ram: &GuestRam, interrupt: &Interrupt) -> Result<(), Fault> {
        if self.queue.needs_notification(ram)? {
            interrupt.queue(self.index);
        }
        Ok(())
    }

    /// Wants to be notified of the next chain. Returns whether there is one already.
    ///
    /// # Errors
    /// If the ring is broken.
    pub fn listen(&mut self, ram: &GuestRam) -> Result<bool, Fault> {
        Ok(self.queue.enable_notification(ram)?)
    }

    /// Lets `serve` answer every chain that is there: it returns the number of bytes written.
    /// Meanwhile the driver need not notify.
    ///
    /// # Errors
    /// If the ring is broken or `serve` gives up.
    pub fn drain<'m>(
        &mut self,
        ram: &'m GuestRam,
        interrupt: &Interrupt,
        mut serve: impl FnMut(Chain<'m>) -> Result<u32, Fault>,
    ) -> Result<(), Fault> {
        loop {
            self.queue.disable_notification(ram)?;
            while let Some(chain) = self.pop(ram)? {
                let head = chain.head_index();
                let written = serve(chain)?;
                self.add_used(ram, head, written)?;
                self.signal(ram, interrupt)?;
            }
            if !self.listen(ram)? {
                return Ok(());
            }
        }
    }
}
