use std::sync::atomic::Ordering;

use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::{Buffer, Descriptor, DriverQueue, Error, QueueLayout, Used};

const SIZE: u16 = 8;

fn memory() -> GuestMemoryMmap {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap()
}

fn layout() -> QueueLayout {
    QueueLayout::new(GuestAddress(0x1000), SIZE).unwrap()
}

/// The device's part: takes the next chain, returns its buffers as (address, length, writable).
fn serve(device: &mut Queue, memory: &GuestMemoryMmap, len: u32) -> Vec<(u64, u32, bool)> {
    let chain = device.pop_descriptor_chain(memory).expect("a chain");
    let head = chain.head_index();
    let buffers = chain.map(|part| (part.addr().0, part.len(), part.is_write_only()));
    let buffers = buffers.collect();
    device.add_used(memory, head, len).unwrap();
    buffers
}

#[test]
fn parts_lie_apart_and_aligned() {
    for size in [1, 2, 16, 256, 1024, 32768] {
        let layout = QueueLayout::new(GuestAddress(0x1_0000), size).unwrap();
        let table = (layout.descriptors().0, 16 * u64::from(size));
        let available = (layout.available().0, 6 + 2 * u64::from(size));
        let used = (layout.used().0, 6 + 8 * u64::from(size));
        assert!(table.0 + table.1 <= available.0);
        assert!(available.0 + available.1 <= used.0);
        assert!(used.0 + used.1 <= 0x1_0000 + QueueLayout::bytes(size));
        assert!(available.0.is_multiple_of(64) && used.0.is_multiple_of(64));
    }
    for size in [0, 3, 40000] {
        let refused = QueueLayout::new(GuestAddress(0), size);
        assert!(matches!(refused, Err(Error::Size(_))), "{size}");
    }
    let refused = QueueLayout::new(GuestAddress(8), 16);
    assert!(matches!(refused, Err(Error::Alignment(8))));
}

#[test]
fn a_device_gets_the_chains_and_the_driver_their_lengths() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout());
    let mut device = driver.device_queue().unwrap();
    assert!(device.is_valid(&memory));
    assert!(device.pop_descriptor_chain(&memory).is_none());
    let chain = [Buffer::readable(0x8000, 16), Buffer::writable(0x9000, 512)];
    let head = driver.add(&memory, &chain).unwrap();
    driver.add(&memory, &[Buffer::writable(0xa000, 1)]).unwrap();
    assert_eq!(driver.next_used(&memory).unwrap(), None);

    let first = serve(&mut device, &memory, 300);
    assert_eq!(first, [(0x8000, 16, false), (0x9000, 512, true)]);
    assert_eq!(serve(&mut device, &memory, 0), [(0xa000, 1, true)]);
    let used = driver.next_used(&memory).unwrap();
    let head = u32::from(head);
    assert_eq!(used, Some(Used { head, len: 300 }));
    assert!(driver.next_used(&memory).unwrap().is_some());
    assert_eq!(driver.next_used(&memory).unwrap(), None);
}

#[test]
fn an_indirect_chain_takes_one_descriptor() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout());
    let mut device = driver.device_queue().unwrap();
    let buffers: Vec<_> = (0..20)
        .map(|number| Buffer::writable(0x8000 + 16 * number, 16))
        .collect();
    let table = GuestAddress(0x4000);
    driver.add_indirect(&memory, table, &buffers).unwrap();
    assert_eq!(driver.free(), SIZE - 1);
    let served = serve(&mut device, &memory, 0);
    assert_eq!(served.len(), buffers.len());
    assert_eq!(served[19], (0x8000 + 16 * 19, 16, true));
    driver.next_used(&memory).unwrap().unwrap();
    driver
        .write_indirect_chain(&memory, 5, table, &buffers[..2])
        .unwrap();
    driver.publish(&memory, 5).unwrap();
    assert_eq!(serve(&mut device, &memory, 0).len(), 2);
    assert_eq!(driver.next_used(&memory).unwrap().unwrap().head, 5);
    assert_eq!(driver.free(), SIZE);
}

#[test]
fn descriptors_come_back_in_any_order() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout());
    let mut device = driver.device_queue().unwrap();
    let three = [Buffer::readable(0x8000, 1); 3];
    let chains = |driver: &mut DriverQueue| {
        let first = driver.add(&memory, &three).unwrap();
        let second = driver.add(&memory, &three).unwrap();
        (first, second)
    };
    for _ in 0..10 {
        let (first, second) = chains(&mut driver);
        let refused = driver.add(&memory, &three);
        assert!(matches!(refused, Err(Error::Full { needed: 3, free: 2 })));
        device.pop_descriptor_chain(&memory).unwrap();
        device.pop_descriptor_chain(&memory).unwrap();
        device.add_used(&memory, second, 0).unwrap();
        device.add_used(&memory, first, 0).unwrap();
        let heads: Vec<_> = std::iter::from_fn(|| driver.next_used(&memory).unwrap())
            .map(|used| used.head)
            .collect();
        assert_eq!(heads, [u32::from(second), u32::from(first)]);
        assert_eq!(driver.free(), SIZE);
    }
    assert!(matches!(driver.add(&memory, &[]), Err(Error::EmptyChain)));
}

#[test]
fn indices_wrap_around() {
    let memory = memory();
    let driver = DriverQueue::new(layout());
    let mut driver = driver.starting_at(&memory, 0xfffe).unwrap();
    let mut device = driver.device_queue().unwrap();
    for number in 0..5 {
        driver.add(&memory, &[Buffer::writable(0x8000, 8)]).unwrap();
        serve(&mut device, &memory, number);
        let used = driver.next_used(&memory).unwrap().unwrap();
        assert_eq!(used.len, number);
    }
    let index: u16 = memory.read_obj(driver.layout().available_index()).unwrap();
    assert_eq!(index, 3);
}

#[test]
fn a_chain_that_stays_is_published_again_and_again() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout());
    let mut device = driver.device_queue().unwrap();
    let chain = [Buffer::readable(0x8000, 16), Buffer::writable(0x9000, 1)];
    driver.write_chain(&memory, 4, &chain).unwrap();
    for _ in 0..2 * SIZE {
        driver.publish(&memory, 4).unwrap();
        assert_eq!(serve(&mut device, &memory, 1).len(), 2);
        let used = driver.next_used(&memory).unwrap().unwrap();
        assert_eq!((used.head, driver.free()), (4, SIZE));
    }
}

#[test]
fn notifications_and_interrupts_by_flags() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout());
    let mut device = driver.device_queue().unwrap();
    device.disable_notification(&memory).unwrap();
    driver.add(&memory, &[Buffer::writable(0x8000, 8)]).unwrap();
    assert!(!driver.needs_notification(&memory).unwrap());
    assert!(device.enable_notification(&memory).unwrap());
    assert!(driver.needs_notification(&memory).unwrap());

    driver.disable_interrupts(&memory).unwrap();
    let flags = |driver: &DriverQueue| {
        let at = driver.layout().available();
        memory.load::<u16>(at, Ordering::Relaxed).unwrap()
    };
    assert_eq!(flags(&driver), 1);
    assert!(!driver.enable_interrupts(&memory).unwrap());
    assert_eq!(flags(&driver), 0);
    serve(&mut device, &memory, 0);
    assert!(driver.enable_interrupts(&memory).unwrap());
}

#[test]
fn notifications_and_interrupts_by_event_indices() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout()).with_event_idx();
    let mut device = driver.device_queue().unwrap();
    let buffer = [Buffer::writable(0x8000, 8)];
    driver.add(&memory, &buffer).unwrap();
    assert!(driver.needs_notification(&memory).unwrap());
    // The device has not asked again.
    driver.add(&memory, &buffer).unwrap();
    assert!(!driver.needs_notification(&memory).unwrap());
    assert!(!driver.enable_interrupts(&memory).unwrap());
    serve(&mut device, &memory, 0);
    assert!(device.needs_notification(&memory).unwrap());
    serve(&mut device, &memory, 0);
    assert!(!device.needs_notification(&memory).unwrap());
    assert!(!device.enable_notification(&memory).unwrap());
    driver.add(&memory, &buffer).unwrap();
    assert!(driver.needs_notification(&memory).unwrap());
}

#[test]
fn a_queue_can_be_broken_on_purpose() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout());
    let mut device = driver.device_queue().unwrap();
    // A chain that leads back to itself ends at the size of the queue.
    let circle = Descriptor::new(0x8000, 8, 1, 2);
    driver.write_descriptor(&memory, 2, circle).unwrap();
    driver.publish(&memory, 2).unwrap();
    assert!(serve(&mut device, &memory, 0).len() <= usize::from(SIZE));
    // A head that no table has.
    driver.publish(&memory, 1000).unwrap();
    let chain = device.pop_descriptor_chain(&memory).unwrap();
    assert_eq!(chain.count(), 0);
    // The device answers with a chain that was never there: nothing is freed.
    memory
        .write_obj([0xffff_ffff_u32, 5], driver.layout().used_entry(1))
        .unwrap();
    memory
        .write_obj(2_u16, driver.layout().used_index())
        .unwrap();
    driver.next_used(&memory).unwrap().unwrap();
    let used = driver.next_used(&memory).unwrap().unwrap();
    let head = 0xffff_ffff;
    assert_eq!(used, Used { head, len: 5 });
    assert_eq!(driver.free(), SIZE);
    // Rings beyond the end of memory are an error, not a panic.
    let beyond = GuestAddress(1 << 40);
    let lost = QueueLayout::placed(SIZE, beyond, beyond, beyond);
    let added = DriverQueue::new(lost).add(&memory, &[Buffer::readable(0, 1)]);
    assert!(matches!(added, Err(Error::Memory(_))));
}

#[test]
fn a_reset_forgets_everything() {
    let memory = memory();
    let mut driver = DriverQueue::new(layout());
    let mut device = driver.device_queue().unwrap();
    driver.add(&memory, &[Buffer::readable(0x8000, 1)]).unwrap();
    serve(&mut device, &memory, 7);
    driver.reset(&memory).unwrap();
    assert_eq!(driver.next_used(&memory).unwrap(), None);
    let mut device = driver.device_queue().unwrap();
    assert!(device.pop_descriptor_chain(&memory).is_none());
    driver.add(&memory, &[Buffer::readable(0x8000, 1)]).unwrap();
    assert_eq!(serve(&mut device, &memory, 7), [(0x8000, 1, false)]);
}
