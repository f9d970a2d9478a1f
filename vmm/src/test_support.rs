//! Stand-ins for the machine around a device.

use std::io;
use std::sync::{Arc, Mutex};

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use crate::kvm::{IoEvents, MsiSink};
use crate::memory::GuestRam;
use crate::pci::msix::Msix;
use crate::virtio::{ActiveQueue, Context, FailureSink, Interrupt, StopFlag};

/// Records interrupts and notification addresses.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    sent: Mutex<Vec<(u64, u32)>>,
    attached: Mutex<Vec<u64>>,
}

#[cfg(test)]
impl Recorder {
    /// The interrupts since the last call: address and data.
    pub(crate) fn taken(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// Addresses whose writes are events now.
    pub(crate) fn attached(&self) -> Vec<u64> {
        self.attached.lock().unwrap().clone()
    }
}

impl MsiSink for Recorder {
    fn send(&self, address: u64, data: u32) {
        self.sent.lock().unwrap().push((address, data));
    }
}

impl IoEvents for Recorder {
    fn attach(&self, _event: &EventFd, address: u64) -> io::Result<()> {
        self.attached.lock().unwrap().push(address);
        Ok(())
    }

    fn detach(&self, _event: &EventFd, address: u64) {
        self.attached
            .lock()
            .unwrap()
            .retain(|known| *known != address);
    }
}

/// What a device works with in a test: queues 0 and following, features of a modern driver.
pub(crate) fn context(
    ram: &GuestRam,
    queues: Vec<Option<Queue>>,
    sink: Arc<dyn MsiSink>,
) -> Context {
    let msix = Arc::new(Msix::new(1, sink));
    let interrupt = Interrupt::new(msix, queues.len());
    let stop = StopFlag::new();
    let active = |(index, queue): (usize, Option<Queue>)| {
        let event = EventFd::new(0).unwrap();
        queue.map(|queue| ActiveQueue::new(queue, index, event, stop.clone()))
    };
    Context {
        ram: ram.clone(),
        features: 1 << VIRTIO_F_VERSION_1,
        queues: queues.into_iter().enumerate().map(active).collect(),
        interrupt,
        threads: crate::threads::Threads::default(),
        failures: FailureSink::new(|_| {}),
        stop: stop.clone(),
    }
}
