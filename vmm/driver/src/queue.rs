//! A queue as its driver sees it.

use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_USED_F_NO_NOTIFY,
};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

use crate::buffer::Buffer;
use crate::error::Error;
use crate::layout::QueueLayout;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// A chain that the device has used (`virtq_used_elem`: virtio 1.2, section 2.7.8). Both values
/// are the device's: check them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The chain's first descriptor.
    pub head: u32,
    /// Bytes that the device says it has written.
    pub len: u32,
}

/// The driver's side of one split virtqueue.
///
/// Chains come from [`Self::add`], which takes free descriptors and gets them back when the chain
/// is used. A caller that keeps chains in descriptors of its own choice writes them once with
/// [`Self::write_chain`] and calls [`Self::publish`] for each request; do not mix the two on one
/// queue. A caller that wants a broken queue writes descriptors ([`Self::write_descriptor`]) and
/// ring entries ([`Self::layout`] has the addresses) as it likes.
#[derive(Debug)]
pub struct DriverQueue {
    layout: QueueLayout,
    event_idx: bool,
    /// For each descriptor, the next one of its chain or of the free ones.
    next: Box<[u16]>,
    /// For the first descriptor of each chain of [`Self::add`]: the descriptors of the chain.
    lengths: Box<[u16]>,
    first_free: u16,
    free: u16,
    /// Chains made available, so many of them when the device was last notified, and chains
    /// collected; all modulo 2^16.
    available: u16,
    notified: u16,
    collected: u16,
    /// The device's index when it was last read.
    used: u16,
}

impl DriverQueue {
    /// A queue that nothing has been put into. Its rings must be zeros in guest memory, as fresh
    /// memory is ([`Self::reset`]).
    pub fn new(layout: QueueLayout) -> DriverQueue {
        let size = layout.size();
        DriverQueue {
            layout,
            event_idx: false,
            next: (1..=size).map(|next| next % size).collect(),
            lengths: vec![0; usize::from(size)].into_boxed_slice(),
            first_free: 0,
            free: size,
            available: 0,
            notified: 0,
            collected: 0,
            used: 0,
        }
    }

    /// Notifications and interrupts follow event indices, which `VIRTIO_F_EVENT_IDX` negotiates
    /// (virtio 1.2, section 2.7.7), instead of flags.
    #[must_use]
    pub fn with_event_idx(mut self) -> DriverQueue {
        self.event_idx = true;
        self
    }

    /// Starts with both rings' indices at `index`, as after so many chains: near 2^16 for a test
    /// of the wrap-around.
    ///
    /// # Errors
    /// If the rings are not in guest memory.
    pub fn starting_at<M>(mut self, memory: &M, index: u16) -> Result<DriverQueue, Error>
    where
        M: GuestMemory + ?Sized,
    {
        (self.available, self.notified) = (index, index);
        (self.collected, self.used) = (index, index);
        memory.write_obj(index.to_le(), self.layout.available_index())?;
        memory.write_obj(index.to_le(), self.layout.used_index())?;
        Ok(self)
    }

    /// Forgets all chains and clears table and rings, as a driver does before it sets up the
    /// device again.
    ///
    /// # Errors
    /// If table or rings are not in guest memory.
    pub fn reset<M: GuestMemory + ?Sized>(&mut self, memory: &M) -> Result<(), Error> {
        let size = self.layout.size();
        for index in 0..size {
            self.write_descriptor(memory, index, Descriptor::default())?;
            memory.write_obj(0_u16, self.layout.available_entry(index))?;
            memory.write_obj(0_u64, self.layout.used_entry(index))?;
        }
        memory.write_obj(0_u32, self.layout.available())?;
        memory.write_obj(0_u16, self.layout.used_event())?;
        memory.write_obj(0_u32, self.layout.used())?;
        memory.write_obj(0_u16, self.layout.available_event())?;
        let fresh = DriverQueue::new(self.layout);
        *self = DriverQueue {
            event_idx: self.event_idx,
            ..fresh
        };
        Ok(())
    }

    /// Where the queue lies.
    pub fn layout(&self) -> &QueueLayout {
        &self.layout
    }

    /// Descriptors that [`Self::add`] can take.
    pub fn free(&self) -> u16 {
        self.free
    }

    /// The device's side of this queue: ready, with the same indices and kind of notifications.
    ///
    /// # Errors
    /// If the queue's size is no power of two.
    pub fn device_queue(&self) -> Result<Queue, Error> {
        let mut queue = self.layout.device_queue()?;
        queue.set_event_idx(self.event_idx);
        queue.set_next_avail(self.collected);
        queue.set_next_used(self.collected);
        Ok(queue)
    }

    /// Makes a chain of `buffers` available; returns its first descriptor.
    ///
    /// # Errors
    /// If there are no `buffers`, too few descriptors are free, or the queue is not in guest
    /// memory.
    pub fn add<M>(&mut self, memory: &M, buffers: &[Buffer]) -> Result<u16, Error>
    where
        M: GuestMemory + ?Sized,
    {
        let head = self.first_free;
        let count = self.reserve(buffers.len())?;
        let mut index = head;
        let mut rest = buffers.iter();
        while let Some(buffer) = rest.next() {
            let next = self.next[usize::from(index)];
            let more = if rest.len() > 0 { NEXT } else { 0 };
            let flags = buffer.flags() | more;
            let descriptor = Descriptor::new(buffer.address, buffer.len, flags, next);
            self.write_descriptor(memory, index, descriptor)?;
            index = next;
        }
        self.take(memory, head, count, index)
    }

    /// Makes a chain of `buffers` available that lies in an indirect table at `table` (virtio 1.2,
    /// section 2.7.5.3): 16 bytes for each. Returns the descriptor that leads there.
    ///
    /// # Errors
    /// As for [`Self::add`], and if the table is not in guest memory.
    pub fn add_indirect<M>(
        &mut self,
        memory: &M,
        table: GuestAddress,
        buffers: &[Buffer],
    ) -> Result<u16, Error>
    where
        M: GuestMemory + ?Sized,
    {
        let head = self.first_free;
        let count = self.reserve(1)?;
        let next = self.next[usize::from(head)];
        self.write_indirect_chain(memory, head, table, buffers)?;
        self.take(memory, head, count, next)
    }

    fn reserve(&self, needed: usize) -> Result<u16, Error> {
        if needed == 0 {
            return Err(Error::EmptyChain);
        }
        match u16::try_from(needed) {
            Ok(count) if count <= self.free => Ok(count),
            _ => Err(Error::Full {
                needed,
                free: usize::from(self.free),
            }),
        }
    }

    /// The `count` descriptors from `head` on are a chain now; `next` is free still.
    fn take<M>(&mut self, memory: &M, head: u16, count: u16, next: u16) -> Result<u16, Error>
    where
        M: GuestMemory + ?Sized,
    {
        self.publish(memory, head)?;
        self.lengths[usize::from(head)] = count;
        self.first_free = next;
        self.free -= count;
        Ok(head)
    }

    /// Writes a chain of `buffers` into the descriptors from `first` on. It stays there, to be
    /// made available with [`Self::publish`] again and again.
    ///
    /// # Errors
    /// If the table is not in guest memory.
    pub fn write_chain<M>(&self, memory: &M, first: u16, buffers: &[Buffer]) -> Result<(), Error>
    where
        M: GuestMemory + ?Sized,
    {
        write_consecutive(memory, self.layout.descriptors(), first, buffers)
    }

    /// Writes an indirect table of `buffers` at `table` (virtio 1.2, section 2.7.5.3), 16 bytes for
    /// each, and the descriptor `head` that leads there. It stays there, to be made available with
    /// [`Self::publish`].
    ///
    /// # Errors
    /// If there are no buffers, or one of the tables is not in guest memory.
    pub fn write_indirect_chain<M>(
        &self,
        memory: &M,
        head: u16,
        table: GuestAddress,
        buffers: &[Buffer],
    ) -> Result<(), Error>
    where
        M: GuestMemory + ?Sized,
    {
        if buffers.is_empty() {
            return Err(Error::EmptyChain);
        }
        write_consecutive(memory, table, 0, buffers)?;
        let bytes = 16 * buffers.len() as u32;
        let descriptor = Descriptor::new(table.0, bytes, INDIRECT, 0);
        self.write_descriptor(memory, head, descriptor)
    }

    /// Writes entry `index` of the descriptor table: any descriptor, sensible or not.
    ///
    /// # Errors
    /// If the table is not in guest memory.
    pub fn write_descriptor<M>(
        &self,
        memory: &M,
        index: u16,
        descriptor: Descriptor,
    ) -> Result<(), Error>
    where
        M: GuestMemory + ?Sized,
    {
        Ok(memory.write_obj(descriptor, self.layout.descriptor(index))?)
    }

    /// Makes the chain that begins at descriptor `head` available, whatever is there. Does not
    /// notify the device ([`Self::needs_notification`]).
    ///
    /// # Errors
    /// If the available ring is not in guest memory.
    pub fn publish<M>(&mut self, memory: &M, head: u16) -> Result<(), Error>
    where
        M: GuestMemory + ?Sized,
    {
        let slot = self.available % self.layout.size();
        memory.write_obj(head.to_le(), self.layout.available_entry(slot))?;
        self.available = self.available.wrapping_add(1);
        let index = self.available.to_le();
        memory.store(index, self.layout.available_index(), Ordering::Release)?;
        Ok(())
    }

    /// Whether the device wants to be notified of the chains that were made available since the
    /// last call (virtio 1.2, section 2.7.10).
    ///
    /// # Errors
    /// If the used ring is not in guest memory.
    pub fn needs_notification<M>(&mut self, memory: &M) -> Result<bool, Error>
    where
        M: GuestMemory + ?Sized,
    {
        // The index is written before the device's wishes are read.
        fence(Ordering::SeqCst);
        let before = std::mem::replace(&mut self.notified, self.available);
        if self.event_idx {
            let event: u16 = memory.load(self.layout.available_event(), Ordering::Relaxed)?;
            let behind = self.available.wrapping_sub(u16::from_le(event));
            return Ok(behind.wrapping_sub(1) < self.available.wrapping_sub(before));
        }
        let flags: u16 = memory.load(self.layout.used(), Ordering::Relaxed)?;
        Ok(u16::from_le(flags) & VRING_USED_F_NO_NOTIFY as u16 == 0)
    }

    /// Wants an interrupt when the device uses the next chain. Returns whether it has used one
    /// already: then there may be no interrupt.
    ///
    /// # Errors
    /// If the rings are not in guest memory.
    pub fn enable_interrupts<M>(&mut self, memory: &M) -> Result<bool, Error>
    where
        M: GuestMemory + ?Sized,
    {
        if self.event_idx {
            let event = self.collected.to_le();
            memory.store(event, self.layout.used_event(), Ordering::Relaxed)?;
        } else {
            memory.store(0_u16, self.layout.available(), Ordering::Relaxed)?;
        }
        // The wish is written before the device's index is read.
        fence(Ordering::SeqCst);
        self.has_used(memory)
    }

    /// Does not want interrupts. With event indices there is nothing to say: the device does not
    /// interrupt again before the next [`Self::enable_interrupts`].
    ///
    /// # Errors
    /// If the available ring is not in guest memory.
    pub fn disable_interrupts<M>(&mut self, memory: &M) -> Result<(), Error>
    where
        M: GuestMemory + ?Sized,
    {
        if !self.event_idx {
            let flags = (VRING_AVAIL_F_NO_INTERRUPT as u16).to_le();
            memory.store(flags, self.layout.available(), Ordering::Relaxed)?;
        }
        Ok(())
    }

    /// Whether the device has used a chain that is not collected yet.
    ///
    /// # Errors
    /// If the used ring is not in guest memory.
    pub fn has_used<M>(&mut self, memory: &M) -> Result<bool, Error>
    where
        M: GuestMemory + ?Sized,
    {
        Ok(self.ready(memory)? != 0)
    }

    /// How many used chains can be collected without another look at the device's index; looks at
    /// it if there are none. As the device says: it may be more than the queue has.
    ///
    /// # Errors
    /// If the used ring is not in guest memory.
    pub fn ready<M>(&mut self, memory: &M) -> Result<u16, Error>
    where
        M: GuestMemory + ?Sized,
    {
        if self.used == self.collected {
            let index: u16 = memory.load(self.layout.used_index(), Ordering::Acquire)?;
            self.used = u16::from_le(index);
        }
        Ok(self.used.wrapping_sub(self.collected))
    }

    /// Collects the next chain that the device has used, in the order of the used ring; `None` if
    /// there is none yet. Descriptors of [`Self::add`] are free again.
    ///
    /// # Errors
    /// If the used ring is not in guest memory.
    pub fn next_used<M>(&mut self, memory: &M) -> Result<Option<Used>, Error>
    where
        M: GuestMemory + ?Sized,
    {
        if !self.has_used(memory)? {
            return Ok(None);
        }
        let slot = self.collected % self.layout.size();
        let [head, len]: [u32; 2] = memory.read_obj(self.layout.used_entry(slot))?;
        self.collected = self.collected.wrapping_add(1);
        let (head, len) = (u32::from_le(head), u32::from_le(len));
        self.release(head);
        Ok(Some(Used { head, len }))
    }

    /// Frees the chain that begins at `head`, if it is one of [`Self::add`].
    fn release(&mut self, head: u32) {
        let Some(length) = self.lengths.get_mut(head as usize) else {
            return;
        };
        let count = std::mem::take(length);
        if count == 0 {
            return;
        }
        let mut last = head as u16;
        for _ in 1..count {
            last = self.next[usize::from(last)];
        }
        self.next[usize::from(last)] = self.first_free;
        self.first_free = head as u16;
        self.free += count;
    }
}

/// Writes a chain into entries `first` and following of the descriptor table at `table`.
fn write_consecutive<M: GuestMemory + ?Sized>(
    memory: &M,
    table: GuestAddress,
    first: u16,
    buffers: &[Buffer],
) -> Result<(), Error> {
    let mut index = first;
    let mut rest = buffers.iter();
    while let Some(buffer) = rest.next() {
        let (more, next) = if rest.len() > 0 {
            (NEXT, index.wrapping_add(1))
        } else {
            (0, 0)
        };
        let flags = buffer.flags() | more;
        let descriptor = Descriptor::new(buffer.address, buffer.len, flags, next);
        memory.write_obj(descriptor, GuestAddress(table.0 + 16 * u64::from(index)))?;
        index = next;
    }
    Ok(())
}
