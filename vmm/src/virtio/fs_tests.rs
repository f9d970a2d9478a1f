//! Tests of the device of a share.

use boxbuild_virtiofs::fuse::abi::{self, EntryOut, InHeader, OutHeader, opcode};
use boxbuild_virtiofs::{MountTag, Share};
use boxbuild_vmm_driver::{Buffer, DriverQueue, QueueLayout};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use super::*;
use crate::memory::flat;
use crate::test_support::{Recorder, context};
use crate::virtio::worker::Worker;

const REQUESTS: u64 = 0x10_0000;
const REPLY: u64 = 0x20_0000;

fn request(opcode: u32, nodeid: u64, body: &[u8]) -> Vec<u8> {
    let header = InHeader {
        len: (size_of::<InHeader>() + body.len()) as u32,
        opcode,
        unique: 2,
        nodeid,
        ..Default::default()
    };
    [header.as_slice(), body].concat()
}

fn add(ram: &GuestRam, queue: &mut DriverQueue, at: u64, request: &[u8], reply: bool) {
    ram.write_slice(request, GuestAddress(at)).unwrap();
    let mut chain = vec![Buffer::readable(at, request.len() as u32)];
    if reply {
        chain.push(Buffer::writable(REPLY, 4096));
    }
    queue.add(ram, &chain).unwrap();
}

/// Removing a folder on NFS found a file in it that the guest had given back already.
#[test]
fn what_is_given_back_goes_before_the_next_request() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let share = Share::new(MountTag::new("share").unwrap(), folder.path());
    let mut fs = Fs::new(PassthroughFs::new(share).unwrap(), 1);
    let ram = flat(64).unwrap();
    let mut queues = [0x1_0000, 0x2_0000]
        .map(|at| DriverQueue::new(QueueLayout::new(GuestAddress(at), 16).unwrap()));
    let active = queues.iter().map(|queue| queue.device_queue().ok());
    let mut context = context(&ram, active.collect(), Arc::new(Recorder::default()));
    let [urgent, others] = &mut queues;
    let init = abi::InitIn {
        major: abi::KERNEL_VERSION,
        minor: abi::KERNEL_MINOR_VERSION,
        ..Default::default()
    };
    let init = request(opcode::INIT, 0, init.as_slice());
    add(&ram, others, REQUESTS, &init, true);
    let lookup = request(opcode::LOOKUP, abi::ROOT_ID, b"file\0");
    add(&ram, others, REQUESTS + 0x1000, &lookup, true);
    fs.notified(1, &mut context).unwrap();
    let head: OutHeader = ram.read_obj(GuestAddress(REPLY)).unwrap();
    assert_eq!(head.error, 0);
    let at = GuestAddress(REPLY + size_of::<OutHeader>() as u64);
    let entry: EntryOut = ram.read_obj(at).unwrap();
    // Both are there when the device looks, and only the second is announced.
    let forget = abi::ForgetIn { nlookup: 1 };
    let forget = request(opcode::FORGET, entry.nodeid, forget.as_slice());
    add(&ram, urgent, REQUESTS + 0x2000, &forget, false);
    let get = abi::GetattrIn::default();
    let get = request(opcode::GETATTR, entry.nodeid, get.as_slice());
    add(&ram, others, REQUESTS + 0x3000, &get, true);
    fs.notified(1, &mut context).unwrap();
    let head: OutHeader = ram.read_obj(GuestAddress(REPLY)).unwrap();
    assert_eq!(head.error, -libc::ENOENT);
    assert!(urgent.next_used(&ram).unwrap().is_some());
    // And alone.
    add(&ram, urgent, REQUESTS + 0x2000, &forget, false);
    fs.notified(0, &mut context).unwrap();
    assert!(urgent.next_used(&ram).unwrap().is_some());
}

/// A share with three queues on the threads of a device, and what drives it.
struct Shared {
    worker: Option<Worker>,
    ram: GuestRam,
    urgent: Mutex<DriverQueue>,
    kicks: Vec<EventFd>,
}

/// Where a queue has its request and the answer.
fn places(queue: usize) -> (u64, u64) {
    let base = 0x40_0000 + queue as u64 * 0x10_0000;
    (base, base + 0x8000)
}

impl Shared {
    fn new(folder: &std::path::Path) -> (Shared, [DriverQueue; 2]) {
        let share = Share::new(MountTag::new("share").unwrap(), folder);
        let fs = Fs::new(PassthroughFs::new(share).unwrap(), 8);
        assert_eq!(fs.queue_sizes().len(), 3);
        let ram = flat(64).unwrap();
        let [urgent, first, second] = [0x1_0000, 0x2_0000, 0x3_0000]
            .map(|at| DriverQueue::new(QueueLayout::new(GuestAddress(at), 16).unwrap()));
        let queues = [&urgent, &first, &second];
        let active = queues.iter().map(|queue| queue.device_queue().ok());
        let context = context(&ram, active.collect(), Arc::new(Recorder::default()));
        let event = |queue: &Option<ActiveQueue>| queue.as_ref()?.event().try_clone().ok();
        let shared = Shared {
            kicks: context.queues.iter().filter_map(event).collect(),
            worker: Some(Worker::start(Box::new(fs), context).unwrap()),
            ram,
            urgent: Mutex::new(urgent),
        };
        (shared, [first, second])
    }

    /// Sends a request by queue 1 or 2; returns its error, and where the body of the answer lies.
    fn ask(&self, number: usize, queue: &mut DriverQueue, request: &[u8]) -> (i32, u64) {
        let (at, reply) = places(number);
        self.ram.write_slice(request, GuestAddress(at)).unwrap();
        let chain = [
            Buffer::readable(at, request.len() as u32),
            Buffer::writable(reply, 4096),
        ];
        queue.add(&self.ram, &chain).unwrap();
        self.kicks[number].write(1).unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while queue.next_used(&self.ram).unwrap().is_none() {
            assert!(std::time::Instant::now() < deadline, "no answer");
            std::thread::yield_now();
        }
        let head: OutHeader = self.ram.read_obj(GuestAddress(reply)).unwrap();
        (head.error, reply + size_of::<OutHeader>() as u64)
    }

    /// Gives a file back, with a notification or without.
    fn forget(&self, place: u64, nodeid: u64, kick: bool) {
        let forget = abi::ForgetIn { nlookup: 1 };
        let forget = request(opcode::FORGET, nodeid, forget.as_slice());
        let mut urgent = self.urgent.lock().unwrap();
        while urgent.free() == 0 {
            urgent.next_used(&self.ram).unwrap();
        }
        // One that is answered has left its place.
        while urgent.next_used(&self.ram).unwrap().is_some() {}
        self.ram.write_slice(&forget, GuestAddress(place)).unwrap();
        let chain = [Buffer::readable(place, forget.len() as u32)];
        urgent.add(&self.ram, &chain).unwrap();
        if kick {
            self.kicks[URGENT].write(1).unwrap();
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while urgent.next_used(&self.ram).unwrap().is_none() {
                assert!(std::time::Instant::now() < deadline, "it is not served");
                std::thread::yield_now();
            }
        }
    }

    fn init(&self, queue: &mut DriverQueue) {
        let init = abi::InitIn {
            major: abi::KERNEL_VERSION,
            minor: abi::KERNEL_MINOR_VERSION,
            ..Default::default()
        };
        let init = request(opcode::INIT, 0, init.as_slice());
        assert_eq!(self.ask(1, queue, &init).0, 0);
    }
}

/// The same where the next request goes by another queue, on another thread.
#[test]
fn what_is_given_back_goes_before_the_next_request_of_any_queue() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let (mut shared, [mut first, mut second]) = Shared::new(folder.path());
    shared.init(&mut first);
    for round in 0..50 {
        let lookup = request(opcode::LOOKUP, abi::ROOT_ID, b"file\0");
        let (error, at) = shared.ask(1, &mut first, &lookup);
        assert_eq!(error, 0);
        let entry: EntryOut = shared.ram.read_obj(GuestAddress(at)).unwrap();
        shared.forget(0x30_0000, entry.nodeid, false);
        let get = abi::GetattrIn::default();
        let get = request(opcode::GETATTR, entry.nodeid, get.as_slice());
        let (number, queue) = if round % 2 == 0 {
            (2, &mut second)
        } else {
            (1, &mut first)
        };
        assert_eq!(shared.ask(number, queue, &get).0, -libc::ENOENT, "{round}");
    }
    // And alone.
    let lookup = request(opcode::LOOKUP, abi::ROOT_ID, b"file\0");
    let (_, at) = shared.ask(2, &mut second, &lookup);
    let entry: EntryOut = shared.ram.read_obj(GuestAddress(at)).unwrap();
    while shared
        .urgent
        .lock()
        .unwrap()
        .next_used(&shared.ram)
        .unwrap()
        .is_some()
    {}
    shared.forget(0x30_0000, entry.nodeid, true);
    assert!(shared.worker.take().unwrap().stop().is_some());
}

/// Two queues look the same files up and give them back: a file that one has is never gone.
#[test]
fn two_queues_share_the_files() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let (shared, [mut first, second]) = Shared::new(folder.path());
    shared.init(&mut first);
    std::thread::scope(|scope| {
        for (number, mut queue) in [(1, first), (2, second)] {
            let shared = &shared;
            scope.spawn(move || {
                for round in 0..1000 {
                    let name: &[u8] = if round % 3 == 0 { b"a\0" } else { b"b\0" };
                    let lookup = request(opcode::LOOKUP, abi::ROOT_ID, name);
                    let (error, at) = shared.ask(number, &mut queue, &lookup);
                    assert_eq!(error, 0, "{round}");
                    let entry: EntryOut = shared.ram.read_obj(GuestAddress(at)).unwrap();
                    let get = abi::GetattrIn::default();
                    let get = request(opcode::GETATTR, entry.nodeid, get.as_slice());
                    assert_eq!(shared.ask(number, &mut queue, &get).0, 0, "{round}");
                    let place = 0x30_0000 + 0x1000 * number as u64;
                    shared.forget(place, entry.nodeid, true);
                }
            });
        }
    });
}
