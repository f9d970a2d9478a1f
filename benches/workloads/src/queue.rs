//! A queue with a device that does nothing.

use std::sync::Arc;

use anyhow::Result;
use boxbuild_vmm::virtio::{Context, Device, DeviceConfig, Fault, Kind};
use boxbuild_vmm_driver::Buffer;

use crate::driver::{BUFFERS, DeviceDriver};
use crate::{Rounds, Workload};

/// Chains at a time.
const CHAINS: usize = 32;

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "queue/drain",
    count: CHAINS as u64,
    unit: "chains of 3 parts",
    bytes: None,
    make: || Ok(Box::new(Drain::new()?)),
}];

/// Uses every chain without looking at its buffers.
#[derive(Debug)]
struct Null(Arc<DeviceConfig>);

impl Device for Null {
    fn kind(&self) -> Kind {
        Kind::Rng
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![crate::driver::SIZE]
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.0)
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(index) else {
            return Ok(());
        };
        queue.drain(&context.ram, &context.interrupt, |chain| {
            Ok(chain.map(|part| part.len()).sum())
        })
    }
}

struct Drain(DeviceDriver);

impl Drain {
    fn new() -> Result<Drain> {
        let device = Null(Arc::new(DeviceConfig::new(Vec::new(), 0..0)));
        Ok(Drain(DeviceDriver::new(Box::new(device), 0)?))
    }
}

impl Rounds for Drain {
    fn round(&mut self) -> Result<()> {
        let parts = [
            Buffer::readable(BUFFERS, 16),
            Buffer::writable(BUFFERS + 0x1000, 4096),
            Buffer::writable(BUFFERS + 0x2000, 1),
        ];
        for _ in 0..CHAINS {
            self.0.put(0, &parts)?;
        }
        self.0.notify(0)?;
        self.0.expect(0, CHAINS)
    }
}
