use std::time::{Duration, Instant};

use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::flat;
use crate::test_support::Recorder;
use crate::virtio::rng::Rng;
use crate::virtio::status;

const BASE: u32 = 0xc000_0000;
const RINGS: GuestAddress = GuestAddress(0x10_0000);
const BUFFER: u64 = 0x20_0000;
const MESSAGE: (u64, u32) = (0xfee0_0000, 0x31);
const ACK_DRIVER: u8 = 3;

/// The driver's side of a function with a source of random numbers.
struct Driver {
    function: VirtioPci,
    recorder: Arc<Recorder>,
    ram: GuestRam,
    failed: std::sync::mpsc::Receiver<String>,
}

/// A device that panics at the first notification.
#[derive(Debug)]
struct Panics;

impl Device for Panics {
    fn kind(&self) -> Kind {
        Kind::Rng
    }
    fn queue_sizes(&self) -> Vec<u16> {
        vec![8]
    }
    fn config(&self) -> Arc<DeviceConfig> {
        Arc::new(DeviceConfig::new(Vec::new(), 0..0))
    }
    fn notified(&mut self, _: usize, _: &mut Context) -> Result<(), Fault> {
        panic!("as planned");
    }
}

impl Driver {
    fn new() -> Driver {
        Driver::of(Box::new(Rng))
    }

    fn of(device: Box<dyn Device>) -> Driver {
        let (sender, failed) = std::sync::mpsc::channel();
        let recorder = Arc::new(Recorder::default());
        let ram = flat(64).unwrap();
        let attachment = Attachment {
            msi: recorder.clone(),
            io_events: recorder.clone(),
            ram: ram.clone(),
            threads: crate::threads::Threads::default(),
            failures: FailureSink::new(move |text| {
                let _ = sender.send(text);
            }),
        };
        let mut function = VirtioPci::new(device, attachment);
        function.config_mut().place(0, BASE);
        function.moved();
        Driver {
            function,
            recorder,
            ram,
            failed,
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        assert_eq!(self.function.write_bar(0, offset, data), Effect::None);
    }

    fn read<const N: usize>(&mut self, offset: u64) -> [u8; N] {
        let mut data = [0; N];
        self.function.read_bar(0, offset, &mut data);
        data
    }

    fn status(&mut self) -> u8 {
        self.read::<1>(0x14)[0]
    }

    /// Interrupts on: vector 1 for the queue, 0 for the configuration, same message.
    fn interrupts(&mut self) {
        for vector in 0..2 {
            let entry = TABLE + vector * msix::ENTRY;
            self.write(entry, &MESSAGE.0.to_le_bytes());
            self.write(entry + 8, &MESSAGE.1.to_le_bytes());
            self.write(entry + 12, &[0; 4]);
        }
        let control = self.function.msix_capability + 2;
        let _ = self.function.write_config(control, &[0, 0x80]);
        let _ = self.function.write_config(4, &[6, 0]);
        self.write(0x10, &0_u16.to_le_bytes());
        self.write(0x16, &0_u16.to_le_bytes());
        self.write(0x1a, &1_u16.to_le_bytes());
    }

    fn features(&mut self, features: u64) {
        self.write(0x14, &[ACK_DRIVER]);
        for half in 0..2_u32 {
            self.write(0x08, &half.to_le_bytes());
            self.write(0x0c, &((features >> (32 * half)) as u32).to_le_bytes());
        }
        self.write(0x14, &[ACK_DRIVER | status::FEATURES_OK]);
    }

    /// Everything up to DRIVER_OK, with the queue's rings at these addresses.
    fn start(&mut self, rings: [u64; 3]) {
        self.interrupts();
        self.features(1 << VIRTIO_F_VERSION_1);
        assert_eq!(self.status(), ACK_DRIVER | status::FEATURES_OK);
        for (register, address) in [0x20, 0x28, 0x30].into_iter().zip(rings) {
            self.write(register, &(address as u32).to_le_bytes());
            self.write(register + 4, &((address >> 32) as u32).to_le_bytes());
        }
        self.write(0x1c, &1_u16.to_le_bytes());
        let ready = ACK_DRIVER | status::FEATURES_OK | status::DRIVER_OK;
        self.write(0x14, &[ready]);
    }

    fn wait(&mut self, what: impl Fn(&mut Driver) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !what(self) {
            assert!(Instant::now() < end, "nothing happens");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn wait_for_interrupt(&mut self) {
        let recorder = self.recorder.clone();
        self.wait(|_| recorder.taken().contains(&MESSAGE));
    }
}

fn queue() -> DriverQueue {
    DriverQueue::new(QueueLayout::new(RINGS, 8).unwrap())
}

fn rings(queue: &DriverQueue) -> [u64; 3] {
    let layout = queue.layout();
    [layout.descriptors(), layout.available(), layout.used()].map(|address| address.0)
}

#[test]
fn a_request_is_answered_and_so_is_one_after_a_reset() {
    let mut driver = Driver::new();
    let ram = driver.ram.clone();
    for _ in 0..2 {
        ram.write_slice(&[0; 64], GuestAddress(BUFFER)).unwrap();
        let mut queue = queue();
        queue.reset(&ram).unwrap();
        driver.start(rings(&queue));
        assert_eq!(driver.recorder.attached(), [u64::from(BASE) + NOTIFY]);
        queue.add(&ram, &[Buffer::writable(BUFFER, 64)]).unwrap();
        // KVM would signal the event; without it the write comes here.
        driver.write(NOTIFY, &[0, 0]);
        driver.wait_for_interrupt();
        assert!(queue.next_used(&ram).unwrap().is_some());
        assert!(!queue.has_used(&ram).unwrap());
        let bytes: [u8; 32] = ram.read_obj(GuestAddress(BUFFER)).unwrap();
        assert_ne!(bytes, [0; 32]);
        assert_eq!(driver.read::<1>(ISR), [1]);
        assert_eq!(driver.read::<1>(ISR), [0]);
        driver.write(0x14, &[0]);
        assert_eq!(driver.status(), 0);
        assert!(driver.recorder.attached().is_empty());
    }
}

#[test]
fn features_that_are_not_offered_are_not_agreed_on() {
    let mut driver = Driver::new();
    driver.features(1 << VIRTIO_F_VERSION_1 | 1 << 40);
    assert_eq!(driver.status(), ACK_DRIVER);
    driver.write(0x14, &[0]);
    driver.features(0);
    assert_eq!(driver.status(), ACK_DRIVER);
}

#[test]
fn a_broken_ring_needs_a_reset_and_works_after_it() {
    let mut driver = Driver::new();
    let ram = driver.ram.clone();
    let mut queue = queue();
    let add = |queue: &mut DriverQueue, ram: &GuestRam, address| {
        queue.add(ram, &[Buffer::writable(address, 64)]).unwrap();
    };
    type Break<'f> = &'f dyn Fn(&mut DriverQueue, &GuestRam);
    let breaks: [Break<'_>; 4] = [
        // More chains than entries.
        &|queue, ram| {
            let index = queue.layout().available_index();
            ram.write_obj(100_u16, index).unwrap();
        },
        // A buffer that is not memory.
        &|queue, ram| add(queue, ram, u64::MAX - 8),
        &|queue, ram| add(queue, ram, 0xd000_0000),
        // A chain that begins nowhere.
        &|queue, ram| queue.publish(ram, 77).unwrap(),
    ];
    for break_it in breaks {
        queue.reset(&ram).unwrap();
        driver.start(rings(&queue));
        break_it(&mut queue, &ram);
        driver.write(NOTIFY, &[0, 0]);
        driver.wait(|driver| driver.status() & status::NEEDS_RESET != 0);
        driver.wait_for_interrupt();
        driver.write(0x14, &[0]);
        assert_eq!(driver.status(), 0);
    }
    queue.reset(&ram).unwrap();
    driver.start(rings(&queue));
    queue.add(&ram, &[Buffer::writable(BUFFER, 64)]).unwrap();
    driver.write(NOTIFY, &[0, 0]);
    driver.wait_for_interrupt();
}

#[test]
fn rings_outside_of_memory_need_a_reset() {
    for rings in [
        [1 << 40, 0x1000, 0x2000],
        [0x1000, u64::MAX - 1, 0x2000],
        [0x1000, 0x2000, 0xffff_fffc],
        // Not aligned.
        [0x1001, 0x2000, 0x3000],
    ] {
        let mut driver = Driver::new();
        driver.start(rings);
        assert_ne!(driver.status() & status::NEEDS_RESET, 0);
        driver.write(0x14, &[0]);
        assert_eq!(driver.status(), 0);
    }
}

#[test]
fn the_doorbell_moves_with_the_bar() {
    let mut driver = Driver::new();
    driver.start(rings(&queue()));
    let _ = driver
        .function
        .write_config(0x10, &0xc800_0000_u32.to_le_bytes());
    driver.function.moved();
    assert_eq!(driver.recorder.attached(), [0xc800_0000 + NOTIFY]);
    let _ = driver.function.write_config(4, &[0, 0]);
    driver.function.moved();
    assert!(driver.recorder.attached().is_empty());
}

#[test]
fn the_window_in_configuration_space_reaches_the_bar() {
    let mut driver = Driver::new();
    let capability = driver.function.pci_capability;
    let mut set = |at: usize, value: u32| {
        driver
            .function
            .write_config(capability + at, &value.to_le_bytes())
    };
    assert_eq!(set(CAP_OFFSET, 0x12), Change::None);
    // From now on a read is a read of the device.
    assert_eq!(set(CAP_LENGTH, 2), Change::Window);
    let mut queues = [0; 2];
    driver
        .function
        .read_config(capability + CAP_DATA, &mut queues);
    assert_eq!(queues, [1, 0]);
    // Out of the BAR, or a strange length: plain bytes of the capability.
    for (offset, len) in [(BAR_SIZE, 2), (u32::MAX, 4), (0x12, 3), (0x13, 2)] {
        let mut set = |at: usize, value: u32| {
            let _ = driver
                .function
                .write_config(capability + at, &value.to_le_bytes());
        };
        set(CAP_OFFSET, offset);
        set(CAP_LENGTH, len);
        assert_eq!(driver.function.window(), None);
    }
}

/// A driver without a mapping of the BAR does everything by the window (section 4.1.4.9).
#[test]
fn a_doorbell_rings_through_the_window() {
    let mut driver = Driver::new();
    let ram = driver.ram.clone();
    let mut queue = queue();
    queue.reset(&ram).unwrap();
    driver.start(rings(&queue));
    queue.add(&ram, &[Buffer::writable(BUFFER, 64)]).unwrap();
    let capability = driver.function.pci_capability;
    let mut set = |at: usize, data: &[u8]| {
        let _ = driver.function.write_config(capability + at, data);
    };
    set(CAP_OFFSET, &(NOTIFY as u32).to_le_bytes());
    set(CAP_LENGTH, &2_u32.to_le_bytes());
    // One byte is not what the window was set to, and rings nothing.
    set(CAP_DATA, &[0]);
    set(CAP_DATA, &[0, 0]);
    driver.wait_for_interrupt();
    assert!(queue.next_used(&ram).unwrap().is_some());
    // So do a reset and a start, and a queue that there is not.
    let mut set = |at: usize, data: &[u8]| {
        let _ = driver.function.write_config(capability + at, data);
    };
    for offset in [NOTIFY + 4, NOTIFY + NOTIFY_LEN - 4] {
        set(CAP_OFFSET, &(offset as u32).to_le_bytes());
        set(CAP_DATA, &[1, 0]);
    }
    set(CAP_OFFSET, &0x14_u32.to_le_bytes());
    set(CAP_LENGTH, &1_u32.to_le_bytes());
    set(CAP_DATA, &[0]);
    assert_eq!(driver.status(), 0);
}

/// Selecting a queue that does not exist says so by its size, and changes no other.
#[test]
fn a_queue_that_does_not_exist_is_empty() {
    let mut driver = Driver::new();
    driver.interrupts();
    driver.features(1 << VIRTIO_F_VERSION_1);
    for selected in [1_u16, 2, 0x7fff, 0xffff] {
        driver.write(0x16, &selected.to_le_bytes());
        assert_eq!(driver.read::<2>(0x16), selected.to_le_bytes());
        for register in (0x18..0x38).step_by(2).filter(|register| *register != 0x1a) {
            driver.write(register, &[0x40, 0]);
            assert_eq!(
                driver.read::<2>(register),
                [0, 0],
                "{selected} {register:#x}"
            );
        }
        driver.write(0x1a, &[0, 0]);
        assert_eq!(driver.read::<2>(0x1a), msix::NO_VECTOR.to_le_bytes());
        driver.write(0x1c, &[1, 0]);
    }
    driver.write(0x16, &[0, 0]);
    assert_ne!(driver.read::<2>(0x18), [0, 0]);
    assert_eq!(driver.read::<2>(0x1c), [0, 0]);
    assert_eq!(driver.read::<2>(0x1a), [1, 0]);
}

/// A device that the host gives nothing to work with.
#[derive(Debug)]
struct Starves;

impl Device for Starves {
    fn kind(&self) -> Kind {
        Kind::Rng
    }
    fn queue_sizes(&self) -> Vec<u16> {
        vec![8]
    }
    fn config(&self) -> Arc<DeviceConfig> {
        Arc::new(DeviceConfig::new(Vec::new(), 0..0))
    }
    fn activate(&mut self, _: &mut Context) -> Result<(), Fault> {
        Err(Fault::Host(String::from("no threads left")))
    }
    fn notified(&mut self, _: usize, _: &mut Context) -> Result<(), Fault> {
        Ok(())
    }
}

/// The guest waited for its disk until the time limit of the build.
#[test]
fn a_device_that_the_host_cannot_start_ends_the_machine_in_words() {
    let mut driver = Driver::of(Box::new(Starves));
    driver.start(rings(&queue()));
    let failed = driver.failed.recv_timeout(Duration::from_secs(20)).unwrap();
    for word in ["virtio-rng", "no threads left", "ulimit -u"] {
        assert!(failed.contains(word), "{word}: {failed}");
    }
    driver.wait(|driver| driver.status() & status::NEEDS_RESET != 0);
    driver.write(0x14, &[0]);
    assert_eq!(driver.status(), 0);
}

/// What a driver does wrong ends no machine.
#[test]
fn a_broken_ring_is_not_the_hosts_fault() {
    let mut driver = Driver::new();
    driver.start([1 << 40, 0x1000, 0x2000]);
    assert_ne!(driver.status() & status::NEEDS_RESET, 0);
    assert!(driver.failed.try_recv().is_err());
}

#[test]
fn a_thread_that_panics_is_reported() {
    let mut driver = Driver::of(Box::new(Panics));
    driver.start(rings(&queue()));
    let failed = driver.failed.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(failed, "the thread virtio-rng panicked");
    driver.wait(|driver| driver.status() & status::NEEDS_RESET != 0);
    driver.write(0x14, &[0]);
    assert_eq!(driver.status(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever a driver writes where: no panic, no hang, and a reset always works.
    #[test]
    fn a_wild_driver(
        accesses in proptest::collection::vec(
            (any::<bool>(), prop_oneof![0_u64..0x40, 0_u64..0x4000], proptest::collection::vec(any::<u8>(), 1..9)),
            1..80)
    ) {
        let mut driver = Driver::new();
        for (in_config, offset, mut data) in accesses {
            if in_config {
                let offset = offset as usize & 0xfff;
                if driver.function.write_config(offset, &data) == Change::Decoding {
                    driver.function.moved();
                }
                driver.function.read_config(offset, &mut data);
            } else {
                data.truncate((u64::from(BAR_SIZE) - offset) as usize);
                driver.write(offset, &data);
                driver.function.read_bar(0, offset, &mut data);
            }
        }
        driver.write(0x14, &[0]);
        prop_assert_eq!(driver.status(), 0);
    }
}
