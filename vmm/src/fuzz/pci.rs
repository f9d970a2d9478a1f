//! A guest that reads and writes configuration space, BARs and MSI-X of a bus of devices.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::{Bytes, GuestAddress, MmapRegion, VolatileMemory};

use super::anonymous_file;
use super::driver::take;
use crate::arch::host::layout;
use crate::bus::Registers;
use crate::disk::RawDisk;
use crate::memory::{self, GuestRam};
use crate::pci::{
    ConfigPorts, ConfigShadow, ConfigWindow, HostBridge, MemoryWindow, PciRoot, config_shadow,
};
use crate::test_support::Recorder;
use crate::virtio::balloon::Balloon;
use crate::virtio::block::Block;
use crate::virtio::console::Console;
use crate::virtio::rng::Rng;
use crate::virtio::{Attachment, Device, FailureSink, VirtioPci};

/// Devices with the host bridge, and one slot behind them that is empty.
const SLOTS: u64 = 6;
/// Accesses of one input: each may start a thread of a device.
const MOST_ACCESSES: usize = 512;
/// Bytes of a slot in memory-mapped configuration space (8 functions of 4 KiB).
const SLOT: u64 = 0x8000;
/// Bytes of the BAR that each virtio device has.
const BAR: u64 = 0x4000;
/// Offset of its register, and of the command and status register (PCI Local Bus Specification
/// 3.0, section 6.1).
const BAR_REGISTER: u64 = 0x10;

/// The bus, as the guest reaches it.
struct Bus {
    ram: GuestRam,
    root: Arc<PciRoot>,
    config: ConfigWindow,
    ports: ConfigPorts,
    memory: MemoryWindow,
    shadow: Arc<MmapRegion>,
    /// The thread of a device has panicked.
    failed: Arc<AtomicBool>,
}

thread_local! {
    static RAM: GuestRam = memory::flat(memory::MIN_MIB).expect("memory for a small guest");
}

/// A guest whose accesses are `data`: an operation (1 byte: what it is in the lowest 3 bits, the
/// width in the next 2, a slot in the last 3), and as many bytes as that takes.
pub fn pci(mut data: &[u8]) {
    let Some(bus) = Bus::new(RAM.with(GuestRam::clone)) else {
        return;
    };
    for _ in 0..MOST_ACCESSES {
        let Some((&operation, rest)) = data.split_first() else {
            break;
        };
        data = rest;
        bus.access(operation, &mut data);
    }
    bus.compare_shadow();
    bus.root.stop();
    assert!(!bus.failed.load(Ordering::SeqCst), "a device panicked");
}

impl Bus {
    fn new(ram: GuestRam) -> Option<Bus> {
        let recorder = Arc::new(Recorder::default());
        let failed = Arc::new(AtomicBool::new(false));
        let panicked = Arc::clone(&failed);
        let attachment = Attachment {
            msi: recorder.clone(),
            io_events: recorder,
            ram: ram.clone(),
            threads: crate::threads::Threads::default(),
            failures: FailureSink::new(move |_| panicked.store(true, Ordering::SeqCst)),
        };
        let disk = RawDisk::new(anonymous_file().ok()?, false).ok()?;
        let devices: [Box<dyn Device>; 4] = [
            Box::new(Console::new(Box::new(|_, _| {})).ok()?),
            Box::new(Block::new(Box::new(disk), 2, Arc::new(|_| {}))),
            Box::new(Rng),
            Box::new(Balloon::new()),
        ];
        let mut root = PciRoot::new(layout::PCI_MMIO..layout::PCI_MMIO_END);
        root.add(Box::new(HostBridge::new())).ok()?;
        for device in devices {
            root.add(Box::new(VirtioPci::new(device, attachment.clone())))
                .ok()?;
        }
        let shadow = config_shadow::memory().ok()?;
        root.set_shadow(ConfigShadow::new(Arc::clone(&shadow), Box::new(|| {})));
        let root = Arc::new(root);
        Some(Bus {
            ram,
            config: ConfigWindow(Arc::clone(&root)),
            ports: ConfigPorts::new(Arc::clone(&root)),
            memory: MemoryWindow::new(Arc::clone(&root), layout::PCI_MMIO),
            root,
            shadow,
            failed,
        })
    }

    fn access(&self, operation: u8, data: &mut &[u8]) {
        let width = 1 << (operation >> 3 & 3);
        let slot = u64::from(operation >> 5) % SLOTS;
        let mut bytes = [0; 8];
        // No register of the bus ends the machine.
        match operation & 7 {
            0 => {
                let at = SLOT * slot + u64::from(u16::from_le_bytes(take(data)) & 0xfff);
                bytes = take(data);
                let _ = self.config.write(at, &bytes[..width]);
            }
            1 => {
                let at = SLOT * slot + u64::from(u16::from_le_bytes(take(data)) & 0xfff);
                self.config.read(at, &mut bytes[..width]);
            }
            2 => {
                let _ = self.ports.write(0, &take::<4>(data));
            }
            3 => {
                let [offset] = take(data);
                bytes = take(data);
                let at = u64::from(offset % 8);
                if offset & 0x80 == 0 {
                    let _ = self.ports.write(at, &bytes[..width]);
                } else {
                    self.ports.read(at, &mut bytes[..width]);
                }
            }
            4 | 5 => {
                let at = u64::from(u16::from_le_bytes(take(data))) % BAR;
                let address = self.bar(slot).saturating_add(at);
                // The window's registers are never asked for what lies before it.
                let Some(offset) = address.checked_sub(layout::PCI_MMIO) else {
                    return;
                };
                if operation & 7 == 4 {
                    bytes = take(data);
                    let _ = self.memory.write(offset, &bytes[..width]);
                } else {
                    self.memory.read(offset, &mut bytes[..width]);
                }
            }
            6 => {
                let offset = u64::from(u32::from_le_bytes(take(data)));
                let _ = self.memory.write(offset, &bytes[..width]);
                self.memory.read(offset, &mut bytes[..width]);
            }
            _ => {
                let at = 8 * u64::from(u16::from_le_bytes(take(data)));
                self.ram
                    .write_slice(&take::<8>(data), GuestAddress(at))
                    .expect("it is guest memory");
            }
        }
    }

    /// Where the guest sees the BAR of a slot.
    fn bar(&self, slot: u64) -> u64 {
        let mut bytes = [0; 4];
        self.config.read(SLOT * slot + BAR_REGISTER, &mut bytes);
        u64::from(u32::from_le_bytes(bytes) & !0xf)
    }

    /// What the guest reads without leaving is what the registers say.
    fn compare_shadow(&self) {
        for slot in 0..SLOTS {
            for register in (0..0x100).step_by(4) {
                let at = SLOT * slot + register;
                let (mut asked, mut shown) = ([0; 4], [0; 4]);
                self.config.read(at, &mut asked);
                let part = VolatileMemory::get_slice(self.shadow.as_ref(), at as usize, 4);
                part.expect("it has all slots").copy_to(&mut shown);
                // The window of a device shows what the guest has chosen.
                if !self.is_window(slot, register) {
                    assert_eq!(asked, shown, "register {register:#x} of slot {slot}");
                }
            }
        }
    }

    /// Whether a register is the data of the PCI configuration access capability (virtio 1.2,
    /// section 4.1.4.9), which is not kept in the shadow once the guest uses it.
    fn is_window(&self, slot: u64, register: u64) -> bool {
        /// `cfg_type`, and where the data are.
        const PCI_ACCESS: u8 = 5;
        const DATA: u64 = 16;
        let Some(capability) = register.checked_sub(DATA) else {
            return false;
        };
        let mut head = [0; 4];
        self.config.read(SLOT * slot + capability, &mut head);
        head[0] == 9 && head[3] == PCI_ACCESS
    }
}
