//! Our disk device, driven as a guest's driver does: through its PCI function.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use boxbuild_vmm::disk::{Disk, Image, Overlay, open_in_place};
use boxbuild_vmm::kvm::{IoEvents, MsiSink};
use boxbuild_vmm::memory::{self, GuestRam};
use boxbuild_vmm::pci::{Function, msix};
use boxbuild_vmm::virtio::block::Block;
use boxbuild_vmm::virtio::{Attachment, FailureSink, VirtioPci};
use virtio_bindings::virtio_blk::{VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_MQ};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vmm_sys_util::eventfd::EventFd;

use crate::ring::{self, Ring};

const BASE: u64 = 0xc000_0000;
/// Parts of the function's memory.
const NOTIFY: u64 = 0x1000;
const TABLE: u64 = 0x2000;

/// Hands interrupts and notifications on.
#[derive(Debug, Default)]
struct Wires {
    calls: Mutex<Vec<EventFd>>,
    kicks: Mutex<HashMap<u64, EventFd>>,
}

impl MsiSink for Wires {
    fn send(&self, _address: u64, data: u32) {
        let calls = self.calls.lock().expect("not poisoned");
        if let Some(call) = calls.get(data as usize) {
            call.write(1).expect("an event can be signalled");
        }
    }
}

impl IoEvents for Wires {
    fn attach(&self, event: &EventFd, address: u64) -> io::Result<()> {
        let event = event.try_clone()?;
        let mut kicks = self.kicks.lock().expect("not poisoned");
        kicks.insert(address - BASE - NOTIFY, event);
        Ok(())
    }

    fn detach(&self, _event: &EventFd, _address: u64) {}
}

/// The disk at work.
#[derive(Debug)]
pub(crate) struct Ours {
    function: VirtioPci,
    wires: Arc<Wires>,
    ram: GuestRam,
    queues: u16,
}

impl Ours {
    /// A fresh overlay over `image`, with its file in `scratch`.
    pub(crate) fn overlay(image: &Path, scratch: &Path, queues: u16) -> Result<Ours> {
        let overlay = Overlay::new(Image::open(image)?, None, scratch)?;
        Ours::new(Box::new(overlay), queues)
    }

    /// `image` itself.
    pub(crate) fn in_place(image: &Path, queues: u16) -> Result<Ours> {
        Ours::new(open_in_place(image, None)?, queues)
    }

    fn new(disk: Box<dyn Disk>, queues: u16) -> Result<Ours> {
        let wires = Arc::new(Wires::default());
        let ram = memory::flat(64 * u64::from(queues))?;
        let attachment = Attachment {
            msi: wires.clone(),
            io_events: wires.clone(),
            ram: ram.clone(),
            threads: boxbuild_vmm::threads::Threads::default(),
            failures: FailureSink::new(|text| eprintln!("the device failed: {text}")),
        };
        let notices = Arc::new(|trouble| eprintln!("{trouble:?}"));
        let block = Block::new(disk, u32::from(queues), notices);
        let mut ours = Ours {
            function: VirtioPci::new(Box::new(block), attachment),
            wires,
            ram,
            queues,
        };
        ours.start()?;
        Ok(ours)
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        // No register of a disk ends the machine.
        let _ = self.function.write_bar(0, offset, data);
    }

    /// The PCI capability `id`.
    fn capability(&mut self, id: u8) -> Option<usize> {
        let mut at = [0; 2];
        self.function.read_config(0x34, &mut at[..1]);
        loop {
            let here = usize::from(at[0]);
            if here == 0 {
                return None;
            }
            let mut head = [0; 2];
            self.function.read_config(here, &mut head);
            if head[0] == id {
                return Some(here);
            }
            at[0] = head[1];
        }
    }

    fn start(&mut self) -> Result<()> {
        let _ = self
            .function
            .write_config(0x10, &(BASE as u32).to_le_bytes());
        let _ = self.function.write_config(4, &[6, 0]);
        let msix = self.capability(msix::CAPABILITY).context("no MSI-X")?;
        let _ = self.function.write_config(msix + 2, &[0, 0x80]);
        self.write(0x14, &[3]);
        let features = 1_u64 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_MQ;
        for half in 0..2_u32 {
            self.write(0x08, &half.to_le_bytes());
            self.write(0x0c, &((features >> (32 * half)) as u32).to_le_bytes());
        }
        self.write(0x14, &[8]);
        for queue in 0..self.queues {
            let entry = TABLE + u64::from(queue) * msix::ENTRY;
            self.write(entry, &0xfee0_0000_u64.to_le_bytes());
            self.write(entry + 8, &u32::from(queue).to_le_bytes());
            self.write(entry + 12, &[0; 4]);
            self.write(0x16, &queue.to_le_bytes());
            self.write(0x18, &ring::SIZE.to_le_bytes());
            self.write(0x1a, &queue.to_le_bytes());
            let layout = ring::layout(u64::from(queue) * ring::BYTES)?;
            let parts = [layout.descriptors(), layout.available(), layout.used()];
            for (register, address) in [0x20, 0x28, 0x30].into_iter().zip(parts) {
                self.write(register, &address.0.to_le_bytes());
            }
            self.write(0x1c, &1_u16.to_le_bytes());
            let mut calls = self.wires.calls.lock().expect("not poisoned");
            calls.push(EventFd::new(0)?);
        }
        self.write(0x14, &[4]);
        Ok(())
    }

    pub(crate) fn rings(&self) -> Result<Vec<Ring<'_, GuestRam>>> {
        let calls = self.wires.calls.lock().expect("not poisoned");
        let kicks = self.wires.kicks.lock().expect("not poisoned");
        let rings = calls.iter().zip(0_u64..).map(|(call, queue)| {
            let kick = kicks
                .get(&(queue * 4))
                .context("the queue is not at work")?;
            let base = queue * ring::BYTES;
            Ring::new(&self.ram, base, kick.try_clone()?, call.try_clone()?)
        });
        rings.collect()
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.function.stop();
    }
}
