//! A device with its driver, without a guest: puts chains into queues and lets the device answer
//! on this thread, so that the same work takes the same instructions in each run.

use std::io;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use boxbuild_vmm::kvm::MsiSink;
use boxbuild_vmm::memory::{self, GuestRam};
use boxbuild_vmm::pci::msix::Msix;
use boxbuild_vmm::virtio::{ActiveQueue, Context, Device, FailureSink, Interrupt, StopFlag};
use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

/// Entries of each queue.
pub const SIZE: u16 = 256;
/// Bytes from one queue to the next.
const QUEUE: u64 = 0x1_0000;
/// Where buffers may lie: behind the queues, up to the end of [`MEMORY`].
pub const BUFFERS: u64 = 0x10_0000;
/// MiB of guest memory.
const MEMORY: u64 = 64;

/// Drops interrupts: the driver polls.
#[derive(Debug)]
struct NoInterrupts;

impl MsiSink for NoInterrupts {
    fn send(&self, _address: u64, _data: u32) {}
}

/// A device and its driver.
#[derive(Debug)]
pub struct DeviceDriver {
    device: Box<dyn Device>,
    context: Context,
    queues: Vec<DriverQueue>,
}

impl DeviceDriver {
    /// The driver of `device`, which accepts `features` besides `VIRTIO_F_VERSION_1`. The device
    /// is not activated: a share would confine this thread ([`Self::activate`]).
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(device: Box<dyn Device>, features: u64) -> Result<DeviceDriver> {
        let ram = memory::flat(MEMORY)?;
        let count = device.queue_sizes().len();
        let queues = (0..count)
            .map(|index| {
                let layout = QueueLayout::new(GuestAddress(QUEUE * index as u64), SIZE)?;
                Ok(DriverQueue::new(layout))
            })
            .collect::<Result<Vec<_>>>()?;
        let stop = StopFlag::new();
        let active = queues.iter().enumerate().map(|(index, queue)| {
            let event = EventFd::new(0)?;
            Ok(Some(ActiveQueue::new(
                queue.device_queue()?,
                index,
                event,
                stop.clone(),
            )))
        });
        let active = active.collect::<Result<Vec<_>>>()?;
        let msix = Arc::new(Msix::new(1, Arc::new(NoInterrupts)));
        #[allow(
            clippy::print_stderr,
            reason = "a device's thread has nowhere else to say it"
        )]
        let failures = FailureSink::new(|text| eprintln!("the device failed: {text}"));
        let context = Context {
            ram,
            features: features | 1 << VIRTIO_F_VERSION_1,
            queues: active,
            interrupt: Interrupt::new(msix, count),
            failures,
            threads: boxbuild_vmm::threads::Threads::default(),
            stop,
        };
        Ok(DeviceDriver {
            device,
            context,
            queues,
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
    /// If there is no memory at `address`.
    pub fn write(&self, bytes: &[u8], address: u64) -> Result<()> {
        Ok(self.ram().write_slice(bytes, GuestAddress(address))?)
    }

    /// Reads from guest memory.
    ///
    /// # Errors
    /// If there is no memory at `address`.
    pub fn read(&self, bytes: &mut [u8], address: u64) -> Result<()> {
        Ok(self.ram().read_slice(bytes, GuestAddress(address))?)
    }

    /// Makes a chain available in queue `index`.
    ///
    /// # Errors
    /// If the queue does not exist or is full.
    pub fn put(&mut self, index: usize, buffers: &[Buffer]) -> Result<()> {
        let queue = self.queues.get_mut(index).context("no such queue")?;
        queue.add(&self.context.ram, buffers)?;
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
    /// If the queue does not exist.
    pub fn used(&mut self, index: usize) -> Result<Option<u32>> {
        let queue = self.queues.get_mut(index).context("no such queue")?;
        let used = queue.next_used(&self.context.ram)?;
        Ok(used.map(|used| used.len))
    }

    /// Expects that `count` chains of queue `index` are answered.
    ///
    /// # Errors
    /// If they are not.
    pub fn expect(&mut self, index: usize, count: usize) -> Result<()> {
        for number in 0..count {
            let used = self.used(index)?;
            ensure!(
                used.is_some(),
                "the device answered {number} of {count} requests"
            );
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
