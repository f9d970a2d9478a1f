//! A device stops at once, whatever its driver has put into the queues.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxbuild_virtiofs::{MountTag, PassthroughFs, Share};
use boxbuild_vmm_driver::{Buffer, Descriptor, DriverQueue, QueueLayout};
use virtio_bindings::virtio_blk as blk;
use vm_memory::{Bytes, GuestAddress};

use super::balloon::Balloon;
use super::block::Block;
use super::console::Console;
use super::device::Device;
use super::fs::Fs;
use super::net::Net;
use super::rng::Rng;
use super::worker::Worker;
use crate::disk::Disk;
use crate::guest_io::Buffers;
use crate::memory::{GuestRam, flat};
use crate::net::NetworkConfig;
use crate::test_support::{Recorder, context};

/// Guest memory that is never touched, and takes none of the host's: 4 GiB of it in one piece.
const MEMORY_MIB: u64 = 8 << 10;
const HIGH: u64 = 4 << 30;
const LONG: u64 = 1 << 32;
/// The longest buffer that a descriptor can name.
const LONGEST: u32 = u32::MAX - 4095;
/// What a device may take, on a busy host. What is in the queues takes minutes.
const SOON: Duration = Duration::from_secs(3);
/// Entries of each queue here.
const ENTRIES: u16 = 64;
/// Distance of the rings of two queues, and where small buffers are.
const RINGS: u64 = 0x1_0000;
const SMALL: u64 = 0x10_0000;

/// A disk on a slow host: 10 ms for each MiB, and for each 64 MiB that are zeroed.
#[derive(Debug, Default)]
struct SlowDisk(Arc<AtomicU64>);

impl SlowDisk {
    fn work(&self, len: u64, bytes_in_10_ms: u64) -> io::Result<()> {
        self.0.fetch_add(len, Ordering::SeqCst);
        let time = 10 * len / bytes_in_10_ms;
        std::thread::sleep(Duration::from_millis(time));
        Ok(())
    }
}

impl Disk for SlowDisk {
    fn size(&self) -> u64 {
        1 << 40
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, _offset: u64, target: &Buffers<'_>) -> io::Result<()> {
        self.work(target.len() as u64, 1 << 20)
    }

    fn write(&self, _offset: u64, source: &Buffers<'_>) -> io::Result<()> {
        self.work(source.len() as u64, 1 << 20)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn zero(&self, _offset: u64, len: u64, _discard: bool) -> io::Result<()> {
        self.work(len, 64 << 20)
    }

    fn serial(&self) -> String {
        String::new()
    }
}

/// Lets `device` work on queues that `fill` fills, until it has `begun`; returns how long it
/// then takes to stop.
fn time_to_stop(
    device: Box<dyn Device>,
    fill: impl FnOnce(&GuestRam, &mut [DriverQueue]),
    begun: impl Fn() -> bool,
) -> Duration {
    let ram = flat(MEMORY_MIB).unwrap();
    let count = device.queue_sizes().len() as u64;
    let layout = |index| QueueLayout::new(GuestAddress(RINGS * index), ENTRIES).unwrap();
    let mut queues: Vec<_> = (0..count)
        .map(|index| DriverQueue::new(layout(index)))
        .collect();
    fill(&ram, &mut queues);
    let active = queues
        .iter()
        .map(|queue| queue.device_queue().ok())
        .collect();
    let context = context(&ram, active, Arc::new(Recorder::default()));
    let worker = Worker::start(device, context).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !begun() {
        assert!(Instant::now() < deadline, "the device does not begin");
        std::thread::sleep(Duration::from_millis(1));
    }
    let stop = Instant::now();
    assert!(worker.stop().is_some());
    stop.elapsed()
}

/// 4 GiB that the device reads, or writes.
fn readable() -> Buffer {
    Buffer::readable(HIGH, LONGEST)
}

fn writable() -> Buffer {
    Buffer::writable(HIGH, LONGEST)
}

/// Puts `chain` into `queue` as often as it takes it.
fn fill_up(ram: &GuestRam, queue: &mut DriverQueue, chain: &[Buffer]) {
    while usize::from(queue.free()) >= chain.len() {
        queue.add(ram, chain).unwrap();
    }
}

/// Fills `queue` with chains that begin with a request of a disk, and end with its status.
fn fill_disk(ram: &GuestRam, queue: &mut DriverQueue, kind: u32, data: &[Buffer]) {
    ram.write_obj(kind, GuestAddress(SMALL)).unwrap();
    let mut chain = vec![Buffer::readable(SMALL, 16)];
    chain.extend(data);
    chain.push(Buffer::writable(SMALL + 16, 1));
    fill_up(ram, queue, &chain);
}

fn waited() -> impl Fn() -> bool {
    let begun = Instant::now();
    move || begun.elapsed() > Duration::from_millis(50)
}

#[test]
fn a_console_stops_in_the_middle_of_four_gib() {
    let handed_on = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&handed_on);
    let console = Console::new(Box::new(move |_, bytes| {
        seen.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }))
    .unwrap();
    let took = time_to_stop(
        Box::new(console),
        |ram, queues| {
            for port in [1, 5] {
                fill_up(ram, &mut queues[port], &[readable()]);
            }
        },
        || handed_on.load(Ordering::SeqCst) > 0,
    );
    let all = handed_on.load(Ordering::SeqCst);
    assert!(took < SOON && all < LONG, "{took:?}, {all} bytes");
}

fn disk_stops(kind: u32, data: &[Buffer], prepare: impl FnOnce(&GuestRam)) {
    let disk = SlowDisk::default();
    let moved = Arc::clone(&disk.0);
    let notices = Arc::new(|error| panic!("{error:?}"));
    // Two queues: the second has a thread of its own.
    let took = time_to_stop(
        Box::new(Block::new(Box::new(disk), 2, notices)),
        |ram, queues| {
            prepare(ram);
            for queue in queues {
                fill_disk(ram, queue, kind, data);
            }
        },
        || moved.load(Ordering::SeqCst) > 0,
    );
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_disk_stops_in_the_middle_of_a_write() {
    let data = [Buffer::readable(HIGH, 16 << 20); 15];
    disk_stops(blk::VIRTIO_BLK_T_OUT, &data, |_| {});
}

#[test]
fn a_disk_stops_in_the_middle_of_a_read() {
    let data = [Buffer::writable(HIGH, 16 << 20); 15];
    disk_stops(blk::VIRTIO_BLK_T_IN, &data, |_| {});
}

#[test]
fn a_disk_stops_in_the_middle_of_zeroing() {
    // 16 ranges of 2 GiB.
    let data = [Buffer::readable(SMALL + 0x1000, 16 * 16)];
    disk_stops(blk::VIRTIO_BLK_T_WRITE_ZEROES, &data, |ram| {
        for range in 0..16 {
            let at = SMALL + 0x1000 + 16 * range;
            ram.write_obj(range << 22, GuestAddress(at)).unwrap();
            ram.write_obj(1_u64 << 22, GuestAddress(at + 8)).unwrap();
        }
    });
}

#[test]
fn all_other_devices_stop_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let share = Share::new(MountTag::new("share").unwrap(), folder.path());
    let devices: [Box<dyn Device>; 4] = [
        Box::new(Rng),
        Box::new(Balloon::new()),
        Box::new(Net::new(NetworkConfig::default()).unwrap()),
        Box::new(Fs::new(PassthroughFs::new(share).unwrap(), 2)),
    ];
    for device in devices {
        let kind = device.kind();
        let took = time_to_stop(
            device,
            |ram, queues| {
                for queue in queues {
                    while queue.free() > 1 {
                        queue.add(ram, &[readable()]).unwrap();
                        queue.add(ram, &[writable()]).unwrap();
                    }
                }
            },
            waited(),
        );
        assert!(took < SOON, "{kind:?}: {took:?}");
    }
}

/// Makes the only chain of `queue` one indirect table of `entries` descriptors of `len` bytes.
fn add_table(ram: &GuestRam, queue: &DriverQueue, entries: u32, len: u32) {
    /// `VIRTQ_DESC_F_NEXT` and `VIRTQ_DESC_F_INDIRECT` (virtio 1.2, section 2.7.5).
    const NEXT: u16 = 1;
    const INDIRECT: u16 = 4;
    let table = HIGH;
    for index in 0..entries {
        let flags = if index + 1 < entries { NEXT } else { 0 };
        let entry = Descriptor::new(SMALL, len, flags, (index + 1) as u16);
        let at = GuestAddress(table + 16 * u64::from(index));
        ram.write_obj(entry, at).unwrap();
    }
    let head = Descriptor::new(table, 16 * entries, INDIRECT, 0);
    queue.write_descriptor(ram, 0, head).unwrap();
    ram.write_obj(1_u16, queue.layout().available_index())
        .unwrap();
}

/// A table may have 65535 entries, of which each costs the host 40 bytes and a look into the
/// guest's memory.
#[test]
fn a_table_with_more_buffers_than_the_queue_has_entries_is_a_fault() {
    let console = || Console::new(Box::new(|_, _| {})).unwrap();
    for (entries, good) in [(64, true), (65, false), (65_535, false)] {
        for len in [0, 1] {
            let ram = flat(MEMORY_MIB).unwrap();
            let queues: Vec<_> = (0..6)
                .map(|index| QueueLayout::new(GuestAddress(RINGS * index), ENTRIES).unwrap())
                .map(DriverQueue::new)
                .collect();
            add_table(&ram, &queues[1], entries, len);
            let active = queues.iter().map(|queue| queue.device_queue().ok());
            let mut context = context(&ram, active.collect(), Arc::new(Recorder::default()));
            let answered = console().notified(1, &mut context);
            assert_eq!(answered.is_ok(), good, "{entries} of {len} bytes");
        }
    }
}

/// A chain that comes back to itself has as many buffers as the queue has entries.
#[test]
fn a_chain_that_comes_back_to_itself_ends() {
    let ram = flat(MEMORY_MIB).unwrap();
    let handed_on = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&handed_on);
    let mut console = Console::new(Box::new(move |_, bytes| {
        seen.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }))
    .unwrap();
    let queues: Vec<_> = (0..6)
        .map(|index| QueueLayout::new(GuestAddress(RINGS * index), ENTRIES).unwrap())
        .map(DriverQueue::new)
        .collect();
    let to_itself = Descriptor::new(SMALL, 7, 1, 0);
    queues[1].write_descriptor(&ram, 0, to_itself).unwrap();
    ram.write_obj(1_u16, queues[1].layout().available_index())
        .unwrap();
    let active = queues.iter().map(|queue| queue.device_queue().ok());
    let mut context = context(&ram, active.collect(), Arc::new(Recorder::default()));
    console.notified(1, &mut context).unwrap();
    assert_eq!(handed_on.load(Ordering::SeqCst), 7 * u64::from(ENTRIES));
}
