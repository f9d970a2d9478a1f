//! The driver's side of one split virtqueue (virtio 1.2, section 2.7).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE, VRING_USED_F_NO_NOTIFY,
};
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::EventFd;

/// Descriptors of a ring; a power of two.
pub(crate) const SIZE: u16 = 1024;
/// Guest memory that one ring takes.
pub(crate) const BYTES: u64 = 0x8000;

const AVAIL: u64 = 0x4000;
const USED: u64 = 0x5000;

/// One entry of a descriptor table.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// Guest address of the buffer.
    pub address: u64,
    /// Length of the buffer in bytes.
    pub len: u32,
    /// `VIRTQ_DESC_F_*`
    pub flags: u16,
    /// Index of the chain's next descriptor, if `flags` say that there is one.
    pub next: u16,
}

// SAFETY: repr(C) with 8 + 4 + 2 + 2 bytes of integers, so without padding.
unsafe impl ByteValued for Descriptor {}

impl Descriptor {
    /// Another descriptor follows.
    pub const NEXT: u16 = VRING_DESC_F_NEXT as u16;
    /// The device writes to the buffer.
    pub const WRITE: u16 = VRING_DESC_F_WRITE as u16;
    /// The buffer is a table of descriptors.
    pub const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;
}

/// One split virtqueue, with its notifications.
#[derive(Debug)]
pub struct Ring {
    base: u64,
    next: u16,
    seen: u16,
    event_idx: bool,
    kick: EventFd,
    call: EventFd,
}

impl Ring {
    pub(crate) fn new(base: u64, event_idx: bool) -> io::Result<Self> {
        Ok(Self {
            base,
            next: 0,
            seen: 0,
            event_idx,
            kick: EventFd::new(libc::EFD_CLOEXEC)?,
            call: EventFd::new(libc::EFD_CLOEXEC)?,
        })
    }

    pub(crate) fn events(&self) -> (&EventFd, &EventFd) {
        (&self.kick, &self.call)
    }

    /// Guest address of the descriptor table's entry `index`.
    pub fn descriptor(&self, index: u16) -> GuestAddress {
        GuestAddress(self.base + 16 * u64::from(index))
    }

    /// Guest address of the available ring.
    pub fn available(&self) -> GuestAddress {
        GuestAddress(self.base + AVAIL)
    }

    /// Guest address of the used ring.
    pub fn used(&self) -> GuestAddress {
        GuestAddress(self.base + USED)
    }

    /// Makes the chain that starts at `head` available to the device; tells it if it wants so.
    pub fn submit(&mut self, memory: &GuestMemoryMmap, head: u16) {
        let at = |offset: u64| GuestAddress(self.base + offset);
        let place = 4 + 2 * u64::from(self.next % SIZE);
        memory
            .store(head, at(AVAIL + place), Ordering::Relaxed)
            .expect("the ring is in memory");
        let old = self.next;
        self.next = self.next.wrapping_add(1);
        memory
            .store(self.next, at(AVAIL + 2), Ordering::Release)
            .expect("the ring is in memory");
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event: u16 = memory
                .load(at(USED + 4 + 8 * u64::from(SIZE)), Ordering::Relaxed)
                .expect("the ring is in memory");
            self.next.wrapping_sub(event).wrapping_sub(1) < self.next.wrapping_sub(old)
        } else {
            let flags: u16 = memory
                .load(at(USED), Ordering::Relaxed)
                .expect("the ring is in memory");
            u32::from(flags) & VRING_USED_F_NO_NOTIFY == 0
        };
        if wanted {
            self.notify();
        }
    }

    /// Tells the device to look at the ring, whether it wants so or not.
    pub fn notify(&self) {
        self.kick.write(1).expect("the device can be notified");
    }

    /// The next chain that the device has used: its head and the bytes written to it. `None` if
    /// there is none after `patience`, which counts between two notifications.
    pub fn wait(
        &mut self,
        memory: &GuestMemoryMmap,
        patience: Option<Duration>,
    ) -> Option<(u32, u32)> {
        loop {
            if let Some(used) = self.take(memory) {
                return Some(used);
            }
            if self.event_idx {
                let event = GuestAddress(self.base + AVAIL + 4 + 2 * u64::from(SIZE));
                memory
                    .store(self.seen, event, Ordering::Relaxed)
                    .expect("the ring is in memory");
                fence(Ordering::SeqCst);
                if let Some(used) = self.take(memory) {
                    return Some(used);
                }
            }
            if let Some(patience) = patience {
                let limit = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
                // SAFETY: the event owns its descriptor and outlives the borrow.
                let call = unsafe { BorrowedFd::borrow_raw(self.call.as_raw_fd()) };
                let mut waited = [PollFd::new(call, PollFlags::POLLIN)];
                if poll(&mut waited, limit).is_ok_and(|ready| ready == 0) {
                    return self.take(memory);
                }
            }
            self.call.read().expect("the device can notify");
        }
    }

    /// The next chain that the device has used, if there is one already.
    pub fn take(&mut self, memory: &GuestMemoryMmap) -> Option<(u32, u32)> {
        let at = |offset: u64| GuestAddress(self.base + USED + offset);
        let index: u16 = memory
            .load(at(2), Ordering::Acquire)
            .expect("the ring is in memory");
        if index == self.seen {
            return None;
        }
        let place = 4 + 8 * u64::from(self.seen % SIZE);
        self.seen = self.seen.wrapping_add(1);
        let used: u64 = memory.read_obj(at(place)).expect("the ring is in memory");
        let used = u64::from_le(used);
        Some((used as u32, (used >> 32) as u32))
    }
}
