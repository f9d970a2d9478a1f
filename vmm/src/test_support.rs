//! Stand-ins for the machine around a device.

use std::io;
use std::sync::Mutex;

use vmm_sys_util::eventfd::EventFd;

use crate::kvm::{IoEvents, MsiSink};

/// Records interrupts and notification addresses.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    sent: Mutex<Vec<(u64, u32)>>,
    attached: Mutex<Vec<u64>>,
}

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
