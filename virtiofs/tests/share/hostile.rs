//! Requests that no sane driver sends. The server neither panics nor hangs: it answers, or says
//! that the connection is broken, and it survives to say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boxbuild_virtiofs::ShareConfig;
use boxbuild_virtiofs::fuse::abi::{self, InHeader, opcode};
use boxbuild_virtiofs::vhost_user::ShareServer;
use boxbuild_virtiofs_client::{Client, Connection, Descriptor, Request};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use crate::support::{ROOT, Share, directory};

const NEXT: u16 = Descriptor::NEXT;
const WRITE: u16 = Descriptor::WRITE;
const INDIRECT: u16 = Descriptor::INDIRECT;
/// Beyond all of the guest's memory.
const NOWHERE: u64 = 1 << 40;

/// What becomes of a chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It came back with this many bytes written.
    Used(u32),
    /// The server says that the driver is broken.
    Broken(String),
}

/// Waits for either; fails the test if the server does neither for a minute.
pub(crate) fn fate(guest: &mut Share) -> Fate {
    for _ in 0..60_000 {
        let (ring, memory) = guest.connection().ring();
        if let Some((_, len)) = ring.wait(memory, Some(Duration::from_millis(1))) {
            return Fate::Used(len);
        }
        if let Some(fault) = guest.server.fault() {
            return Fate::Broken(fault);
        }
    }
    panic!("neither an answer nor a fault: the server hangs or has panicked");
}

/// Where requests and replies lie in these tests.
fn request() -> u64 {
    Connection::scratch(0).0
}

fn reply() -> u64 {
    request() + 0x10000
}

fn buffer(address: u64, len: u32, flags: u16, next: u16) -> Descriptor {
    Descriptor {
        address,
        len,
        flags,
        next,
    }
}

/// Puts a request into memory: a GETATTR of the root, with this length in its header.
fn put_getattr(guest: &mut Share, len: u32) {
    let header = InHeader {
        len,
        opcode: opcode::GETATTR,
        unique: 2,
        nodeid: ROOT,
        ..Default::default()
    };
    let memory = guest.connection().memory();
    memory.write_obj(header, GuestAddress(request())).unwrap();
    let body = abi::GetattrIn::default();
    memory
        .write_obj(body, GuestAddress(request() + 40))
        .unwrap();
}

fn put_table(guest: &mut Share, at: GuestAddress, table: &[Descriptor]) {
    for (descriptor, index) in table.iter().zip(0_u64..) {
        let address = GuestAddress(at.0 + 16 * index);
        let memory = guest.connection().memory();
        memory.write_obj(*descriptor, address).unwrap();
    }
}

/// A GETATTR as this chain in the ring's own table.
fn chain(guest: &mut Share, descriptors: &[Descriptor]) -> Fate {
    put_getattr(guest, 56);
    let at = guest.connection().ring().0.descriptor(0);
    put_table(guest, at, descriptors);
    let (ring, memory) = guest.connection().ring();
    ring.submit(memory, 0);
    fate(guest)
}

/// The same as an indirect table.
fn indirect(guest: &mut Share, descriptors: &[Descriptor], len: u32) -> Fate {
    let table = request() + 0x8000;
    put_table(guest, GuestAddress(table), descriptors);
    chain(guest, &[buffer(table, len, INDIRECT, 0)])
}

#[test]
fn a_sane_chain_is_answered_in_any_layout() {
    let mut guest = Share::new();
    let whole = [
        buffer(request(), 56, NEXT, 1),
        buffer(reply(), 200, WRITE, 0),
    ];
    assert_eq!(chain(&mut guest, &whole), Fate::Used(120));
    assert_eq!(indirect(&mut guest, &whole, 32), Fate::Used(120));
    let pieces = [
        buffer(request(), 1, NEXT, 5),
        buffer(reply() + 3, 197, WRITE, 0),
        buffer(request() + 41, 15, NEXT, 3),
        buffer(reply(), 2, WRITE | NEXT, 4),
        buffer(reply() + 2, 1, WRITE | NEXT, 1),
        buffer(request() + 1, 40, NEXT, 2),
    ];
    assert_eq!(chain(&mut guest, &pieces), Fate::Used(120));
    // A table may also be the end of a chain.
    put_table(&mut guest, GuestAddress(request() + 0x8000), &pieces[1..2]);
    let mixed = [
        buffer(request(), 56, NEXT, 1),
        buffer(reply(), 3, WRITE | NEXT, 2),
        buffer(request() + 0x8000, 16, INDIRECT, 0),
    ];
    assert_eq!(chain(&mut guest, &mixed), Fate::Used(120));
}

#[test]
fn broken_chains_break_the_connection() {
    let (input, output) = (request(), reply());
    let chains = [
        ("nothing", vec![buffer(input, 0, 0, 0)]),
        ("no reply", vec![buffer(input, 56, 0, 0)]),
        ("no request", vec![buffer(output, 200, WRITE, 0)]),
        (
            "half a header",
            vec![buffer(input, 39, NEXT, 1), buffer(output, 200, WRITE, 0)],
        ),
        (
            "less than stated",
            vec![buffer(input, 55, NEXT, 1), buffer(output, 200, WRITE, 0)],
        ),
        (
            "no room for a header",
            vec![buffer(input, 56, NEXT, 1), buffer(output, 15, WRITE, 0)],
        ),
        (
            "the reply first",
            vec![
                buffer(output, 200, WRITE | NEXT, 1),
                buffer(input, 56, 0, 0),
            ],
        ),
        (
            "a reply in the middle",
            vec![
                buffer(input, 40, NEXT, 1),
                buffer(output, 200, WRITE | NEXT, 2),
                buffer(input + 40, 16, 0, 0),
            ],
        ),
        (
            "outside",
            vec![buffer(NOWHERE, 56, NEXT, 1), buffer(output, 200, WRITE, 0)],
        ),
        (
            "reply outside",
            vec![buffer(input, 56, NEXT, 1), buffer(NOWHERE, 200, WRITE, 0)],
        ),
        (
            "end outside",
            vec![
                buffer(input, u32::MAX, NEXT, 1),
                buffer(output, 200, WRITE, 0),
            ],
        ),
        (
            "overflow",
            vec![
                buffer(u64::MAX - 8, 56, NEXT, 1),
                buffer(output, 200, WRITE, 0),
            ],
        ),
        ("a loop of one", vec![buffer(input, 56, NEXT, 0)]),
        (
            "a loop of two",
            vec![buffer(input, 56, NEXT, 1), buffer(input, 56, NEXT, 0)],
        ),
        (
            "a loop over both",
            vec![
                buffer(input, 56, NEXT, 1),
                buffer(output, 200, WRITE | NEXT, 0),
            ],
        ),
        (
            "next outside of the table",
            vec![buffer(input, 56, NEXT, 5000)],
        ),
        ("a table nowhere", vec![buffer(NOWHERE, 32, INDIRECT, 0)]),
        ("an empty table", vec![buffer(input, 0, INDIRECT, 0)]),
        ("half a descriptor", vec![buffer(input, 8, INDIRECT, 0)]),
        (
            "an endless table",
            vec![buffer(input, u32::MAX, INDIRECT, 0)],
        ),
        (
            "a table and more",
            vec![
                buffer(input, 32, INDIRECT | NEXT, 1),
                buffer(input, 0, 0, 0),
            ],
        ),
    ];
    for (name, descriptors) in chains {
        let mut guest = Share::new();
        let fate = chain(&mut guest, &descriptors);
        assert!(matches!(fate, Fate::Broken(_)), "{name}: {fate:?}");
        // It stays so, however often it is asked, and ends when it is told to.
        let (ring, memory) = guest.connection().ring();
        ring.submit(memory, 0);
        ring.notify();
        assert!(guest.server.fault().is_some());
    }
}

#[test]
fn broken_tables_break_the_connection() {
    let (input, output) = (request(), reply());
    let itself = input + 0x8000;
    let tables = [
        ("a loop", vec![buffer(input, 56, NEXT, 0)]),
        ("next outside", vec![buffer(input, 56, NEXT, 7)]),
        ("a table in a table", vec![buffer(itself, 16, INDIRECT, 0)]),
        (
            "order",
            vec![
                buffer(output, 200, WRITE | NEXT, 1),
                buffer(input, 56, 0, 0),
            ],
        ),
        ("outside", vec![buffer(NOWHERE, 56, 0, 0)]),
    ];
    for (name, table) in tables {
        let mut guest = Share::new();
        let fate = indirect(&mut guest, &table, 16 * table.len() as u32);
        assert!(matches!(fate, Fate::Broken(_)), "{name}: {fate:?}");
    }
}

#[test]
fn broken_rings_break_the_connection() {
    // More available chains than the ring has places.
    let mut guest = Share::new();
    let (ring, memory) = guest.connection().ring();
    let index = GuestAddress(ring.available().0 + 2);
    memory.write_obj(40_000_u16, index).unwrap();
    ring.notify();
    assert!(matches!(fate(&mut guest), Fate::Broken(_)));
    // A head outside of the table.
    let mut guest = Share::new();
    let (ring, memory) = guest.connection().ring();
    ring.submit(memory, 5000);
    assert!(matches!(fate(&mut guest), Fate::Broken(_)));
}

#[test]
fn lengths_that_are_wrong_break_the_connection() {
    for len in [0, 1, 39, 57, u32::MAX] {
        let mut guest = Share::new();
        put_getattr(&mut guest, len);
        let at = guest.connection().ring().0.descriptor(0);
        let descriptors = [
            buffer(request(), 56, NEXT, 1),
            buffer(reply(), 200, WRITE, 0),
        ];
        put_table(&mut guest, at, &descriptors);
        let (ring, memory) = guest.connection().ring();
        ring.submit(memory, 0);
        let fate = fate(&mut guest);
        assert!(matches!(fate, Fate::Broken(_)), "{len}: {fate:?}");
    }
}

#[test]
fn transfers_without_arguments_break_the_connection() {
    for opcode in [opcode::READ, opcode::WRITE] {
        let mut guest = Share::new();
        let body: [&[u8]; 1] = [&[0; 39]];
        let request = Request {
            opcode,
            node: ROOT,
            body: &body,
            data: 0,
            room: 4096,
        };
        guest.submit(0, &request);
        assert!(matches!(fate(&mut guest), Fate::Broken(_)));
    }
}

/// The server is dropped while its guest goes on asking without a pause.
#[test]
fn a_flood_does_not_keep_the_server_from_ending() {
    let (mut guest, server) = {
        let dir = directory();
        let config = ShareConfig::new(dir.path().join("share"));
        let (server, stream) = ShareServer::start(config).unwrap();
        (Client::mount(stream), server)
    };
    let ended = Arc::new(AtomicBool::new(false));
    let flood = {
        let ended = Arc::clone(&ended);
        std::thread::spawn(move || {
            let mut answers = 0_u64;
            let getattr = abi::GetattrIn::default();
            let body = [getattr.as_slice()];
            let request = Request {
                opcode: opcode::GETATTR,
                node: ROOT,
                body: &body,
                data: 0,
                room: 104,
            };
            guest.submit(0, &request);
            while !ended.load(Ordering::Relaxed) {
                let (ring, memory) = guest.connection().ring();
                if ring.take(memory).is_some() {
                    answers += 1;
                    guest.submit(0, &request);
                }
            }
            answers
        })
    };
    std::thread::sleep(Duration::from_millis(50));
    drop(server);
    ended.store(true, Ordering::Relaxed);
    assert_ne!(flood.join().unwrap(), 0);
}

#[test]
fn requests_that_make_no_sense_are_answered() {
    let mut guest = Share::new();
    let (file, fh) = guest.create(ROOT, "f", 0o600).unwrap();
    let node = file.nodeid;
    for code in [0, 7, 19, 31, 33, 37, 39, 40, 41, 48, 49, 52, 4096, u32::MAX] {
        assert_eq!(guest.call(code, ROOT, &[b"12345678"]), Err(libc::ENOSYS));
    }
    // Too short for their arguments, without a terminating NUL, with too much after it.
    for code in [
        3, 4, 8, 9, 11, 12, 13, 14, 18, 20, 21, 22, 34, 35, 43, 45, 46, 47,
    ] {
        assert!(guest.call(code, node, &[b"x"]).is_err(), "{code}");
    }
    let lookup = guest.call(opcode::LOOKUP, ROOT, &[b"f"]);
    assert_eq!(lookup, Err(libc::EINVAL));
    let lookup = guest.call(opcode::LOOKUP, ROOT, &[b"f\0g\0"]);
    assert_eq!(lookup, Err(libc::EINVAL));
    // Sizes that are not there.
    let write = abi::WriteIn {
        fh,
        size: 4096,
        ..Default::default()
    };
    let body: [&[u8]; 2] = [write.as_slice(), b"short"];
    assert_eq!(guest.call(opcode::WRITE, node, &body), Err(libc::EINVAL));
    let set = abi::SetxattrIn {
        size: u32::MAX,
        flags: 0,
    };
    let body: [&[u8]; 3] = [set.as_slice(), &[0; 8], b"user.x\0"];
    assert_eq!(guest.call(opcode::SETXATTR, node, &body), Err(libc::E2BIG));
    let read = abi::ReadIn {
        fh,
        size: u32::MAX,
        ..Default::default()
    };
    assert_eq!(
        guest.call(opcode::READ, node, &[read.as_slice()]),
        Ok(vec![])
    );
    let far = guest.write(node, fh, u64::MAX - 2, b"data");
    assert_eq!(far, Err(libc::EINVAL));
    assert!(guest.truncate(node, u64::MAX).is_err());
    // Handles and nodes that were never given out, or belong to something else.
    for (node, fh) in [(node, fh + 99), (ROOT, fh), (u64::MAX, fh)] {
        assert_eq!(guest.read(node, fh, 0, 1), Err(libc::EBADF));
        assert_eq!(guest.write(node, fh, 0, b"x"), Err(libc::EBADF));
        assert_eq!(guest.release(node, fh), Err(libc::EBADF));
        assert_eq!(
            guest.readdir((node, fh), 0, 4096, true).unwrap_err(),
            libc::EBADF
        );
    }
    guest.batch_forget(&[(u64::MAX, u64::MAX), (0, 1), (node + 1, 1)]);
    let count = abi::BatchForgetIn {
        count: u32::MAX,
        dummy: 0,
    };
    guest.urgent(opcode::BATCH_FORGET, 0, &[count.as_slice()]);
    assert_eq!(guest.init_version(7, 8).unwrap_err(), libc::EPROTO);
    assert_eq!(guest.init_version(8, 0).unwrap().major, 7);
    // And after all that it works.
    guest.write(node, fh, 0, b"fine").unwrap();
    assert_eq!(guest.server.fault(), None);
    guest.assert_unharmed();
}

/// Requests with any operation, node and body.
#[test]
fn any_bytes_are_answered() {
    let mut guest = Share::new();
    for name in ["a", "b", "c"] {
        std::fs::write(guest.host(name), name).unwrap();
        guest.lookup(ROOT, name).unwrap();
    }
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let byte = prop_oneof![3 => Just(0_u8), 1 => 1..8_u8, 1 => prop::sample::select(b"abc./".to_vec()), 1 => any::<u8>()];
    let strategy = (
        0..60_u32,
        0..8_u64,
        prop::collection::vec(byte, 0..200),
        0..3000_u32,
    );
    for _ in 0..5000 {
        let (opcode, node, mut body, room) = strategy.new_tree(&mut runner).unwrap().current();
        if opcode == opcode::SYNCFS {
            // Has no arguments to get wrong, and would bring the machine's disk to its knees.
            continue;
        }
        if matches!(opcode, opcode::READ | opcode::WRITE) {
            // Less than this breaks the connection; see above.
            body.resize(body.len().max(size_of::<abi::ReadIn>()), 0);
        }
        if matches!(
            opcode,
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT
        ) {
            guest.urgent(opcode, node, &[&body]);
            continue;
        }
        let body: [&[u8]; 1] = [&body];
        let request = Request {
            opcode,
            node,
            body: &body,
            data: 0,
            room: room.max(1024),
        };
        let _ = guest.exchange(&request);
    }
    assert_eq!(guest.server.fault(), None);
    assert_eq!(guest.beside(), ["share", "victim"]);
}

/// Chains of any shape: each ends in an answer or a fault, and the next guest is served.
#[test]
fn any_chain_has_an_end() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let address = prop_oneof![
        4 => (0..64_u64).prop_map(|n| request() + n),
        4 => (0..64_u64).prop_map(|n| reply() + n),
        1 => (0..32_u64).prop_map(|n| request() + 0x8000 + n * 16),
        1 => any::<u64>(),
    ];
    let len = prop_oneof![8 => 0..128_u32, 1 => any::<u32>()];
    let next = prop_oneof![8 => 0..8_u16, 1 => any::<u16>()];
    let descriptor = (address, len, 0..8_u16, next);
    let chains = prop::collection::vec(descriptor, 1..8);
    let mut guest = Share::new();
    for _ in 0..1000 {
        let shape = chains.new_tree(&mut runner).unwrap().current();
        let descriptors: Vec<_> = shape
            .into_iter()
            .map(|(address, len, flags, next)| buffer(address, len, flags, next))
            .collect();
        if let Fate::Broken(_) = chain(&mut guest, &descriptors) {
            guest.assert_unharmed();
            guest = Share::new();
        }
    }
}
