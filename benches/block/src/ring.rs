//! The driver's side of one split virtqueue of a disk (virtio 1.2, sections 2.7 and 5.2.6).

use std::fmt::Debug;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

/// Descriptors of a ring.
pub(crate) const SIZE: u16 = 256;
/// The most requests in flight: three descriptors each.
pub(crate) const DEPTH: u16 = 64;
/// The largest transfer in bytes.
pub(crate) const LARGEST: u32 = 256 << 10;
/// Guest memory of one ring with its requests.
pub(crate) const BYTES: u64 = DATA + DEPTH as u64 * LARGEST as u64;

const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
/// Headers (16 bytes) and status bytes.
const HEADERS: u64 = 0x4000;
const HEADER: u64 = 32;
const DATA: u64 = 0x1_0000;

/// How long a disk may be silent before the measurement fails, in milliseconds.
const PATIENCE: u16 = 60_000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;

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

/// One ring, in the guest's memory from `base` on.
#[derive(Debug)]
pub(crate) struct Ring<'m, M> {
    memory: &'m M,
    base: u64,
    kick: EventFd,
    call: EventFd,
    next: u16,
    seen: u16,
}

impl<'m, M> Ring<'m, M>
where
    M: Bytes<GuestAddress>,
    M::E: Debug,
{
    pub(crate) fn new(memory: &'m M, base: u64, kick: EventFd, call: EventFd) -> Self {
        Ring {
            memory,
            base,
            kick,
            call,
            next: 0,
            seen: 0,
        }
    }

    /// Addresses of the three parts of the ring at `base`.
    pub(crate) fn parts(base: u64) -> [u64; 3] {
        [base, base + AVAILABLE, base + USED]
    }

    fn put<T: vm_memory::ByteValued>(&self, value: T, at: u64) {
        let address = GuestAddress(self.base + at);
        self.memory.write_obj(value, address).expect("in memory");
    }

    fn flags(&self, flags: u16) {
        let address = GuestAddress(self.base + AVAILABLE);
        let stored = self.memory.store(flags, address, Ordering::Relaxed);
        stored.expect("in memory");
        fence(Ordering::SeqCst);
    }

    fn index(&self) -> u16 {
        let address = GuestAddress(self.base + USED + 2);
        let index = self.memory.load(address, Ordering::Acquire);
        index.expect("in memory")
    }

    /// Writes the chain of `slot`, which stays.
    fn prepare(&self, slot: u16, job: Job) {
        let first = slot * 3;
        let header = self.base + HEADERS + u64::from(slot) * HEADER;
        let data = self.base + DATA + u64::from(slot) * u64::from(LARGEST);
        let (kind, flag) = match job.action {
            Action::Read => (0_u32, WRITE),
            Action::Write => (1, 0),
        };
        for (index, address, len, flags) in [
            (first, header, 16_u32, NEXT),
            (first + 1, data, job.size, NEXT | flag),
            (first + 2, header + 16, 1, WRITE),
        ] {
            let at = u64::from(index) * 16;
            self.put(address, at);
            self.put(len, at + 8);
            self.put(flags, at + 12);
            self.put(index + 1, at + 14);
        }
        self.put(u64::from(kind), HEADERS + u64::from(slot) * HEADER);
    }

    fn submit(&mut self, slot: u16, sector: u64) {
        let header = HEADERS + u64::from(slot) * HEADER;
        self.put(sector, header + 8);
        self.put(0xff_u8, header + 16);
        self.put(slot * 3, AVAILABLE + 4 + 2 * u64::from(self.next % SIZE));
        self.next = self.next.wrapping_add(1);
        let address = GuestAddress(self.base + AVAILABLE + 2);
        let stored = self.memory.store(self.next, address, Ordering::Release);
        stored.expect("in memory");
    }

    /// Tells the device, if it wants to know.
    fn notify(&self) -> Result<()> {
        fence(Ordering::SeqCst);
        let address = GuestAddress(self.base + USED);
        let flags: u16 = self
            .memory
            .load(address, Ordering::Relaxed)
            .expect("in memory");
        if flags & 1 == 0 {
            self.kick.write(1)?;
        }
        Ok(())
    }

    /// Waits until the device has done something.
    fn wait(&self) -> Result<()> {
        while self.index() == self.seen {
            self.flags(0);
            if self.index() == self.seen {
                self.interrupt()?;
            }
            self.flags(1);
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
            if poll(&mut waited, PollTimeout::from(PATIENCE))? == 0 {
                bail!("the disk does not answer");
            }
        }
    }

    /// Has the device do `job` at each of `offsets` (bytes).
    pub(crate) fn run(&mut self, job: Job, offsets: &[u64]) -> Result<()> {
        let depth = job.depth.min(DEPTH).min(offsets.len() as u16);
        let mut offsets = offsets.iter();
        let mut pending = 0;
        self.flags(1);
        for slot in 0..depth {
            self.prepare(slot, job);
            self.submit(slot, offsets.next().context("an offset")? / 512);
            pending += 1;
        }
        self.notify()?;
        while pending > 0 {
            self.wait()?;
            let used = self.index();
            while self.seen != used {
                let at = USED + 4 + 8 * u64::from(self.seen % SIZE);
                let address = GuestAddress(self.base + at);
                let head: u32 = self.memory.read_obj(address).expect("in memory");
                let slot = head as u16 / 3;
                let status = HEADERS + u64::from(slot) * HEADER + 16;
                let address = GuestAddress(self.base + status);
                let status: u8 = self.memory.read_obj(address).expect("in memory");
                if status != 0 {
                    bail!("the disk answers with status {status}");
                }
                self.seen = self.seen.wrapping_add(1);
                pending -= 1;
                if let Some(offset) = offsets.next() {
                    self.submit(slot, offset / 512);
                    pending += 1;
                }
            }
            self.notify()?;
        }
        Ok(())
    }
}
