//! Where a queue lies in guest memory.

use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

use crate::error::Error;

/// Bytes of a descriptor (virtio 1.2, section 2.7.5).
const DESCRIPTOR: u64 = 16;
/// Bytes of an entry of the available ring (section 2.7.6) and of the used ring (2.7.8).
const AVAILABLE_ENTRY: u64 = 2;
const USED_ENTRY: u64 = 8;
/// Flags and index before a ring's entries, and the event index behind them.
const RING_HEAD: u64 = 4;
const RING_TAIL: u64 = 2;
/// More than the alignment that the rings need: each gets cache lines of its own.
const CACHE_LINE: u64 = 64;

/// Size and addresses of a split virtqueue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLayout {
    size: u16,
    descriptors: GuestAddress,
    available: GuestAddress,
    used: GuestAddress,
}

impl QueueLayout {
    /// Guest memory that a queue of `size` entries takes ([`Self::new`]), in bytes: a multiple of
    /// 64, so that the next queue may follow.
    pub const fn bytes(size: u16) -> u64 {
        Self::used_offset(size)
            + (RING_HEAD + USED_ENTRY * size as u64 + RING_TAIL).next_multiple_of(CACHE_LINE)
    }

    const fn available_offset(size: u16) -> u64 {
        (DESCRIPTOR * size as u64).next_multiple_of(CACHE_LINE)
    }

    const fn used_offset(size: u16) -> u64 {
        Self::available_offset(size)
            + (RING_HEAD + AVAILABLE_ENTRY * size as u64 + RING_TAIL).next_multiple_of(CACHE_LINE)
    }

    /// A queue of `size` entries: descriptor table, available ring and used ring one after the
    /// other from `base` on. Does not look whether there is memory.
    ///
    /// # Errors
    /// If `size` is no power of two up to 32768, or `base` is not aligned to 16 bytes.
    pub fn new(base: GuestAddress, size: u16) -> Result<QueueLayout, Error> {
        if !size.is_power_of_two() {
            return Err(Error::Size(size));
        }
        if !base.0.is_multiple_of(DESCRIPTOR) {
            return Err(Error::Alignment(base.0));
        }
        let at = |offset| GuestAddress(base.0 + offset);
        let (available, used) = (Self::available_offset(size), Self::used_offset(size));
        Ok(QueueLayout::placed(size, base, at(available), at(used)))
    }

    /// A queue whose parts lie anywhere: nothing is checked, so that a test can place them where
    /// a device must not accept them.
    pub const fn placed(
        size: u16,
        descriptors: GuestAddress,
        available: GuestAddress,
        used: GuestAddress,
    ) -> QueueLayout {
        QueueLayout {
            size,
            descriptors,
            available,
            used,
        }
    }

    /// Entries of the table and of each ring.
    pub const fn size(&self) -> u16 {
        self.size
    }

    /// Address of the descriptor table.
    pub const fn descriptors(&self) -> GuestAddress {
        self.descriptors
    }

    /// Address of the available ring.
    pub const fn available(&self) -> GuestAddress {
        self.available
    }

    /// Address of the used ring.
    pub const fn used(&self) -> GuestAddress {
        self.used
    }

    /// Address of entry `index` of the descriptor table.
    pub const fn descriptor(&self, index: u16) -> GuestAddress {
        GuestAddress(self.descriptors.0 + DESCRIPTOR * index as u64)
    }

    /// Address of `idx` of the available ring: how many chains the driver has made available.
    pub const fn available_index(&self) -> GuestAddress {
        GuestAddress(self.available.0 + 2)
    }

    /// Address of entry `slot` of the available ring.
    pub const fn available_entry(&self, slot: u16) -> GuestAddress {
        GuestAddress(self.available.0 + RING_HEAD + AVAILABLE_ENTRY * slot as u64)
    }

    /// Address of `used_event`: after which used chain the driver wants an interrupt.
    pub const fn used_event(&self) -> GuestAddress {
        self.available_entry(self.size)
    }

    /// Address of `idx` of the used ring: how many chains the device has used.
    pub const fn used_index(&self) -> GuestAddress {
        GuestAddress(self.used.0 + 2)
    }

    /// Address of entry `slot` of the used ring.
    pub const fn used_entry(&self, slot: u16) -> GuestAddress {
        GuestAddress(self.used.0 + RING_HEAD + USED_ENTRY * slot as u64)
    }

    /// Address of `avail_event`: after which available chain the device wants a notification.
    pub const fn available_event(&self) -> GuestAddress {
        self.used_entry(self.size)
    }

    /// The device's side of this queue, ready, at its first chain.
    ///
    /// # Errors
    /// If the size is no power of two.
    pub fn device_queue(&self) -> Result<Queue, Error> {
        let mut queue = Queue::new(self.size)?;
        let halves = |address: GuestAddress| {
            let (low, high) = (address.0 as u32, (address.0 >> 32) as u32);
            (Some(low), Some(high))
        };
        let (low, high) = halves(self.descriptors);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(self.available);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(self.used);
        queue.set_used_ring_address(low, high);
        queue.set_ready(true);
        Ok(queue)
    }
}
