//! The driver of one queue of a disk: requests of one kind, so many in flight (virtio 1.2,
//! section 5.2.6).

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use boxbuild_vmm_driver::{Access, Buffer, DriverQueue, QueueLayout};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use virtio_bindings::virtio_blk::{VIRTIO_BLK_S_OK, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};
use vm_memory::{Bytes, GuestAddress, GuestMemory};
use vmm_sys_util::eventfd::EventFd;

/// Descriptors of a queue.
pub(crate) const SIZE: u16 = 256;
/// The most requests in flight: three descriptors each.
pub(crate) const DEPTH: u16 = 64;
/// The largest transfer in bytes.
pub(crate) const LARGEST: u32 = 256 << 10;
/// Guest memory of one queue with its requests.
pub(crate) const BYTES: u64 = DATA + DEPTH as u64 * LARGEST as u64;

/// Headers (16 bytes) and status bytes, and data: offsets behind the queue.
const HEADERS: u64 = 0x4000;
const HEADER: u64 = 32;
const DATA: u64 = 0x1_0000;
const _: () = assert!(QueueLayout::bytes(SIZE) <= HEADERS);
/// A status that no device answers with.
const UNANSWERED: u8 = 0xff;

/// How long a disk may be silent before the measurement fails, in milliseconds.
const TIMEOUT: u16 = 60_000;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Read,
    Write,
}

/// Requests of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) action: Action,
    /// Bytes of each.
    pub(crate) size: u32,
    /// How many at once.
    pub(crate) depth: u16,
}

/// One queue, in the guest's memory from `base` on, with its notifications.
#[derive(Debug)]
pub(crate) struct Ring<'m, M> {
    memory: &'m M,
    base: u64,
    queue: DriverQueue,
    kick: EventFd,
    call: EventFd,
}

/// Where the queue at `base` lies.
pub(crate) fn layout(base: u64) -> Result<QueueLayout> {
    Ok(QueueLayout::new(GuestAddress(base), SIZE)?)
}

impl<'m, M: GuestMemory> Ring<'m, M> {
    pub(crate) fn new(memory: &'m M, base: u64, kick: EventFd, call: EventFd) -> Result<Self> {
        Ok(Ring {
            memory,
            base,
            queue: DriverQueue::new(layout(base)?),
            kick,
            call,
        })
    }

    /// Where the header of `slot` lies; its status byte is behind it.
    fn header(&self, slot: u16) -> u64 {
        self.base + HEADERS + u64::from(slot) * HEADER
    }

    fn status(&self, slot: u16) -> GuestAddress {
        GuestAddress(self.header(slot) + 16)
    }

    /// Writes the chain of `slot`, which stays.
    fn prepare(&self, slot: u16, job: Job) -> Result<()> {
        let (header, status) = (self.header(slot), self.status(slot));
        let (kind, access) = match job.action {
            Action::Read => (VIRTIO_BLK_T_IN, Access::Writable),
            Action::Write => (VIRTIO_BLK_T_OUT, Access::Readable),
        };
        let data = Buffer {
            address: self.base + DATA + u64::from(slot) * u64::from(LARGEST),
            len: job.size,
            access,
        };
        let chain = [
            Buffer::readable(header, 16),
            data,
            Buffer::writable(status.0, 1),
        ];
        self.queue.write_chain(self.memory, slot * 3, &chain)?;
        let kind = u64::from(kind);
        Ok(self.memory.write_obj(kind, GuestAddress(header))?)
    }

    fn submit(&mut self, slot: u16, sector: u64) -> Result<()> {
        let place = GuestAddress(self.header(slot) + 8);
        self.memory.write_obj(sector, place)?;
        self.memory.write_obj(UNANSWERED, self.status(slot))?;
        Ok(self.queue.publish(self.memory, slot * 3)?)
    }

    /// Tells the device, if it wants to know.
    fn notify(&mut self) -> Result<()> {
        if self.queue.needs_notification(self.memory)? {
            self.kick.write(1)?;
        }
        Ok(())
    }

    /// Waits until the device has done something.
    fn wait(&mut self) -> Result<()> {
        while !self.queue.has_used(self.memory)? {
            if !self.queue.enable_interrupts(self.memory)? {
                self.interrupt()?;
            }
            self.queue.disable_interrupts(self.memory)?;
        }
        Ok(())
    }

    fn interrupt(&self) -> Result<()> {
        loop {
            match self.call.read() {
                Ok(_) => return Ok(()),
                // QEMU makes the event one that does not block.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            // SAFETY: the event owns its descriptor and outlives the borrow.
            let call = unsafe { BorrowedFd::borrow_raw(self.call.as_raw_fd()) };
            let mut waited = [PollFd::new(call, PollFlags::POLLIN)];
            if poll(&mut waited, PollTimeout::from(TIMEOUT))? == 0 {
                bail!("the disk does not answer");
            }
        }
    }

    /// Has the device do `job` at each of `offsets` (bytes).
    pub(crate) fn run(&mut self, job: Job, offsets: &[u64]) -> Result<()> {
        let depth = job.depth.min(DEPTH).min(offsets.len() as u16);
        let mut offsets = offsets.iter();
        let mut pending = 0;
        self.queue.disable_interrupts(self.memory)?;
        for slot in 0..depth {
            self.prepare(slot, job)?;
            self.submit(slot, offsets.next().context("an offset")? / 512)?;
            pending += 1;
        }
        self.notify()?;
        while pending > 0 {
            self.wait()?;
            for _ in 0..self.queue.ready(self.memory)? {
                let used = self.queue.next_used(self.memory)?.context("a used chain")?;
                let slot = used.head as u16 / 3;
                let status: u8 = self.memory.read_obj(self.status(slot))?;
                if u32::from(status) != VIRTIO_BLK_S_OK {
                    bail!("the disk answers with status {status}");
                }
                pending -= 1;
                if let Some(offset) = offsets.next() {
                    self.submit(slot, offset / 512)?;
                    pending += 1;
                }
            }
            self.notify()?;
        }
        Ok(())
    }
}
