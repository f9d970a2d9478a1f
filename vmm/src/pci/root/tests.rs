use proptest::prelude::*;

use super::*;
use crate::pci::{ConfigSpace, HostBridge, Identity};

const WINDOW: Range<u64> = 0xc000_0000..0xc010_0000;

/// A function with one BAR of 4 KiB whose bytes are their offsets.
#[derive(Debug)]
struct Sample(ConfigSpace);

impl Sample {
    fn new() -> Box<Sample> {
        let mut config = ConfigSpace::new(Identity {
            vendor: 1,
            device: 2,
            revision: 0,
            class: 0,
            subsystem_vendor: 0,
            subsystem: 0,
        });
        config.add_bar(0, 4096);
        Box::new(Sample(config))
    }
}

impl Function for Sample {
    fn config(&self) -> &ConfigSpace {
        &self.0
    }
    fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.0
    }
    fn read_bar(&mut self, _bar: usize, offset: u64, data: &mut [u8]) {
        assert!(offset + data.len() as u64 <= 4096);
        data.fill(offset as u8);
    }
    fn write_bar(&mut self, _bar: usize, offset: u64, data: &[u8]) -> Effect {
        assert!(offset + data.len() as u64 <= 4096);
        Effect::None
    }
}

fn bus() -> Arc<PciRoot> {
    let mut root = PciRoot::new(WINDOW);
    root.add(Box::new(HostBridge::new())).unwrap();
    root.add(Sample::new()).unwrap();
    root.add(Sample::new()).unwrap();
    Arc::new(root)
}

fn read<const N: usize>(device: &dyn Registers, offset: u64) -> [u8; N] {
    // As the machine's bus hands it over.
    let mut data = [0xff; N];
    device.read(offset, &mut data);
    data
}

#[test]
fn both_ways_lead_to_the_same_registers() {
    let root = bus();
    let window = ConfigWindow(Arc::clone(&root));
    let ports = ConfigPorts::new(root);
    assert_eq!(read(&window, 1 << 15), [1, 0, 2, 0]);
    let _ = ports.write(0, &(ENABLE | 1 << 11).to_le_bytes());
    assert_eq!(read(&ports, 0), (ENABLE | 1 << 11).to_le_bytes());
    assert_eq!(read(&ports, 4), [1, 0, 2, 0]);
    assert_eq!(read(&ports, 6), [2, 0]);
    // Function 1, device 3, another bus: no device. Extended space: nothing.
    assert_eq!(read(&window, 1 << 15 | 1 << 12), [0xff; 4]);
    assert_eq!(read(&window, 3 << 15), [0xff; 4]);
    assert_eq!(read(&window, 1 << 15 | 0x100), [0; 4]);
    let _ = ports.write(0, &(ENABLE | 1 << 16 | 1 << 11).to_le_bytes());
    assert_eq!(read(&ports, 4), [0xff; 4]);
    // Not enabled; across registers.
    let _ = ports.write(0, &(1_u32 << 11).to_le_bytes());
    assert_eq!(read(&ports, 4), [0xff; 4]);
    assert_eq!(read(&window, 1 << 15 | 2), [0xff; 4]);
}

#[test]
fn bars_do_not_overlap_and_follow_the_guest() {
    let root = bus();
    let config = ConfigWindow(Arc::clone(&root));
    let memory = MemoryWindow::new(root, WINDOW.start);
    assert_eq!(read(&config, 1 << 15 | 0x10), 0xc000_0000_u32.to_le_bytes());
    assert_eq!(read(&config, 2 << 15 | 0x10), 0xc000_1000_u32.to_le_bytes());
    // No BAR answers before a driver says so.
    assert_eq!(read(&memory, 0x1008), [0xff]);
    let _ = config.write(2 << 15 | 4, &[2, 0]);
    assert_eq!(read(&memory, 0x1008), [8]);
    let _ = config.write(2 << 15 | 0x10, &0xc000_8000_u32.to_le_bytes());
    assert_eq!(read(&memory, 0x1008), [0xff]);
    assert_eq!(read(&memory, 0x8008), [8]);
    // Across the end of a BAR.
    assert_eq!(read(&memory, 0x8ffe), [0xff; 4]);
    // Decoding off.
    let _ = config.write(2 << 15 | 4, &[0, 0]);
    assert_eq!(read(&memory, 0x8008), [0xff]);
}

#[test]
fn a_bus_has_limits() {
    let mut root = PciRoot::new(WINDOW);
    for _ in 0..SLOTS {
        root.add(Sample::new()).unwrap();
    }
    assert_eq!(root.add(Sample::new()), Err(PciError::Slots));
    let mut root = PciRoot::new(0xc000_0000..0xc000_1000);
    root.add(Sample::new()).unwrap();
    assert_eq!(root.add(Sample::new()), Err(PciError::Window(4096)));
}

proptest! {
    /// No sequence of accesses panics or reaches a BAR out of its bounds (see `Sample`).
    #[test]
    fn wild_accesses(
        accesses in proptest::collection::vec(
            (0_u8..3, any::<u64>(), proptest::collection::vec(any::<u8>(), 1..9)), 1..100)
    ) {
        let root = bus();
        let config = ConfigWindow(Arc::clone(&root));
        let ports = ConfigPorts::new(Arc::clone(&root));
        let memory = MemoryWindow::new(root, WINDOW.start);
        for (target, offset, mut data) in accesses {
            let (device, limit): (&dyn Registers, u64) = match target {
                0 => (&config, 3 << 15),
                1 => (&ports, 8),
                _ => (&memory, WINDOW.end - WINDOW.start),
            };
            let _ = device.write(offset % limit, &data);
            device.read(offset % limit, &mut data);
        }
    }
}

#[test]
fn the_image_follows_the_registers_until_it_is_withdrawn() {
    use std::sync::atomic::AtomicUsize;

    use vm_memory::{Bytes, VolatileMemory};

    use crate::pci::{ConfigShadow, config_shadow};

    let root = bus();
    let memory = config_shadow::memory().unwrap();
    let withdrawn = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&withdrawn);
    root.set_shadow(ConfigShadow::new(
        Arc::clone(&memory),
        Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }),
    ));
    let window = ConfigWindow(Arc::clone(&root));
    let same = || {
        let all = VolatileMemory::get_slice(memory.as_ref(), 0, memory.size()).unwrap();
        assert_eq!(all.len(), 32 << 15);
        // Function 0 of each slot, whether there is a device or not.
        for offset in (0..all.len()).step_by(4).filter(|at| at >> 12 & 7 == 0) {
            let mut seen = [0; 4];
            all.read_slice(&mut seen, offset).unwrap();
            assert_eq!(seen, read::<4>(&window, offset as u64), "{offset:#x}");
        }
    };
    same();
    // The first BAR of device 1: its size, then an address; then its command register.
    for (register, value) in [(0x10, u32::MAX), (0x10, 0xc008_0000), (4, 2)] {
        let _ = window.write((1 << 15) + register, &value.to_le_bytes());
        same();
    }
    assert_eq!(withdrawn.load(Ordering::Relaxed), 0);
}
