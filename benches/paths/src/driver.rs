//! A guest's driver, without a guest: puts chains into rings and lets the device answer on this
//! thread, so that the same work takes the same instructions in each run.

use std::io;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use boxbuild_vmm::kvm::MsiSink;
use boxbuild_vmm::memory::{self, GuestRam};
use boxbuild_vmm::pci::msix::Msix;
use boxbuild_vmm::virtio::{ActiveQueue, Context, Device, Failures, Interrupt};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::{Queue, QueueT};
use vm_memory::{ByteValued, Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

/// Entries of each queue.
pub const SIZE: u16 = 256;
/// Bytes from one queue's rings to the next one's.
const RINGS: u64 = 0x1_0000;
/// Offsets of the available and the used ring from the descriptor table.
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x4000;
/// Where buffers may lie: behind the rings, up to the end of [`MEMORY`].
pub const BUFFERS: u64 = 0x10_0000;
/// MiB of guest memory.
const MEMORY: u64 = 64;

/// A part of a chain.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Where, in guest memory.
    pub address: u64,
    /// How many bytes.
    pub len: u32,
    /// Whether the device writes.
    pub writable: bool,
}

/// Bytes that the device reads.
pub fn readable(address: u64, len: usize) -> Part {
    Part {
        address,
        len: len as u32,
        writable: false,
    }
}

/// Room for the device.
pub fn writable(address: u64, len: usize) -> Part {
    Part {
        address,
        len: len as u32,
        writable: true,
    }
}

/// Interrupts lead nowhere: the driver looks by itself.
#[derive(Debug)]
struct Nobody;

impl MsiSink for Nobody {
    fn send(&self, _address: u64, _data: u32) {}
}

/// What the driver knows of a queue.
#[derive(Debug, Clone, Copy, Default)]
struct Ring {
    next_descriptor: u16,
    available: u16,
    used: u16,
}

/// A device and its driver.
#[derive(Debug)]
pub struct Driver {
    device: Box<dyn Device>,
    context: Context,
    rings: Vec<Ring>,
}

impl Driver {
    /// The driver of `device`, which accepts `features` besides `VIRTIO_F_VERSION_1`. The device
    /// is not activated: a share would confine this thread ([`Self::activate`]).
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(device: Box<dyn Device>, features: u64) -> Result<Driver> {
        let ram = memory::allocate(MEMORY)?;
        let queues = device.queue_sizes().len();
        let active = (0..queues).map(|index| {
            let mut queue = Queue::new(SIZE)?;
            let base = RINGS * index as u64;
            queue.set_desc_table_address(Some(base as u32), Some(0));
            queue.set_avail_ring_address(Some((base + AVAILABLE) as u32), Some(0));
            queue.set_used_ring_address(Some((base + USED) as u32), Some(0));
            queue.set_ready(true);
            Ok(Some(ActiveQueue::new(queue, index, EventFd::new(0)?)))
        });
        let active = active.collect::<Result<Vec<_>>>()?;
        let msix = Arc::new(Msix::new(1, Arc::new(Nobody)));
        let context = Context {
            ram,
            features: features | 1 << VIRTIO_F_VERSION_1,
            queues: active,
            interrupt: Interrupt::new(msix, queues),
            failures: Failures::new(|text| eprintln!("the device failed: {text}")),
        };
        Ok(Driver {
            device,
            context,
            rings: vec![Ring::default(); queues],
        })
    }

    /// The driver is ready, as DRIVER_OK says.
    ///
    /// # Errors
    /// If the device cannot work.
    pub fn activate(&mut self) -> Result<()> {
        Ok(self.device.activate(&mut self.context)?)
    }

    fn ram(&self) -> &GuestRam {
        &self.context.ram
    }

    /// Writes into guest memory.
    ///
    /// # Errors
    /// If it is none.
    pub fn write(&self, bytes: &[u8], address: u64) -> Result<()> {
        Ok(self.ram().write_slice(bytes, GuestAddress(address))?)
    }

    /// Reads from guest memory.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(&self, bytes: &mut [u8], address: u64) -> Result<()> {
        Ok(self.ram().read_slice(bytes, GuestAddress(address))?)
    }

    fn put_value<T: ByteValued>(&self, value: T, address: u64) -> Result<()> {
        Ok(self.ram().write_obj(value, GuestAddress(address))?)
    }

    /// Makes a chain available in queue `index`.
    ///
    /// # Errors
    /// If a part is not in guest memory.
    pub fn put(&mut self, index: usize, parts: &[Part]) -> Result<()> {
        let mut ring = *self.rings.get(index).context("no such queue")?;
        let base = RINGS * index as u64;
        let head = ring.next_descriptor;
        for (number, part) in parts.iter().enumerate() {
            let at = base + 16 * u64::from(ring.next_descriptor);
            ring.next_descriptor = (ring.next_descriptor + 1) % SIZE;
            let mut flags = 0;
            if part.writable {
                flags |= VRING_DESC_F_WRITE as u16;
            }
            if number + 1 < parts.len() {
                flags |= VRING_DESC_F_NEXT as u16;
            }
            self.put_value(part.address, at)?;
            self.put_value(part.len, at + 8)?;
            self.put_value(flags, at + 12)?;
            self.put_value(ring.next_descriptor, at + 14)?;
        }
        let slot = u64::from(ring.available % SIZE);
        self.put_value(head, base + AVAILABLE + 4 + 2 * slot)?;
        ring.available = ring.available.wrapping_add(1);
        self.put_value(ring.available, base + AVAILABLE + 2)?;
        if let Some(kept) = self.rings.get_mut(index) {
            *kept = ring;
        }
        Ok(())
    }

    /// Lets the device look at queue `index`.
    ///
    /// # Errors
    /// If it cannot go on.
    pub fn notify(&mut self, index: usize) -> Result<()> {
        Ok(self.device.notified(index, &mut self.context)?)
    }

    /// Lets the device do what the host's side has for it.
    ///
    /// # Errors
    /// If it cannot go on.
    pub fn wake(&mut self) -> Result<()> {
        Ok(self.device.woken(&mut self.context)?)
    }

    /// The next chain that the device has returned: the bytes that it wrote.
    ///
    /// # Errors
    /// If the ring is not in memory.
    pub fn used(&mut self, index: usize) -> Result<Option<u32>> {
        let base = RINGS * index as u64 + USED;
        let filled: u16 = self.ram().read_obj(GuestAddress(base + 2))?;
        let ring = self.rings.get_mut(index).context("no such queue")?;
        if ring.used == filled {
            return Ok(None);
        }
        let at = base + 4 + 8 * u64::from(ring.used % SIZE);
        ring.used = ring.used.wrapping_add(1);
        let [_head, len]: [u32; 2] = self.context.ram.read_obj(GuestAddress(at))?;
        Ok(Some(len))
    }

    /// Expects that `count` chains of queue `index` are answered.
    ///
    /// # Errors
    /// If they are not.
    pub fn expect(&mut self, index: usize, count: usize) -> Result<()> {
        for number in 0..count {
            if self.used(index)?.is_none() {
                bail!("the device answered {number} of {count} requests");
            }
        }
        Ok(())
    }
}

/// Random numbers, the same ones in each run (xorshift64, Marsaglia 2003).
#[derive(Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A folder for a workload, in memory where the host has such a file system.
pub(crate) fn folder() -> io::Result<tempfile::TempDir> {
    let builder = tempfile::Builder::new()
        .prefix("boxbuild-bench-")
        .to_owned();
    builder
        .tempdir_in("/dev/shm")
        .or_else(|_| builder.tempdir())
}
