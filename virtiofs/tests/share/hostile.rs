//! Requests that only a broken or hostile driver sends. The server neither panics nor hangs: it
//! replies, or reports that the driver is broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boxbuild_virtiofs::fuse::abi::{self, InHeader, opcode};
use boxbuild_virtiofs::vhost_user::ShareServer;
use boxbuild_virtiofs_client::{Client, Connection, Request};
use boxbuild_vmm_driver::Descriptor;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use vm_memory::{ByteValued, Bytes, GuestAddress};

use crate::support::{ROOT, TestShare, directory, share};

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;
/// Beyond all of the guest's memory.
const NOWHERE: u64 = 1 << 40;

/// What the server does with a chain.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is used, with this many bytes written.
    Used(u32),
    /// The server reports that the driver is broken.
    Broken(String),
}

/// Waits for either; fails the test if the server does neither for a minute.
pub(crate) fn outcome(guest: &mut TestShare) -> Outcome {
    for _ in 0..60_000 {
        let (ring, memory) = guest.connection().ring();
        if let Some(used) = ring.wait(memory, Some(Duration::from_millis(1))) {
            return Outcome::Used(used.len);
        }
        if let Some(fault) = guest.server.status().fault() {
            return Outcome::Broken(fault);
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
    Descriptor::new(address, len, flags, next)
}

/// Puts a request into memory: a GETATTR of the root, with this length in its header.
fn put_getattr(guest: &mut TestShare, len: u32) {
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

fn put_table(guest: &mut TestShare, at: GuestAddress, table: &[Descriptor]) {
    for (descriptor, index) in table.iter().zip(0_u64..) {
        let address = GuestAddress(at.0 + 16 * index);
        let memory = guest.connection().memory();
        memory.write_obj(*descriptor, address).unwrap();
    }
}

/// A GETATTR as this chain in the ring's own table.
fn chain(guest: &mut TestShare, descriptors: &[Descriptor]) -> Outcome {
    put_getattr(guest, 56);
    let at = guest.connection().ring().0.queue().layout().descriptor(0);
    put_table(guest, at, descriptors);
    let (ring, memory) = guest.connection().ring();
    ring.submit(memory, 0);
    outcome(guest)
}

/// The same as an indirect table.
fn indirect(guest: &mut TestShare, descriptors: &[Descriptor], len: u32) -> Outcome {
    let table = request() + 0x8000;
    put_table(guest, GuestAddress(table), descriptors);
    chain(guest, &[buffer(table, len, INDIRECT, 0)])
}

#[test]
fn a_valid_chain_is_answered_in_any_layout() {
    let mut guest = TestShare::new();
    let whole = [
        buffer(request(), 56, NEXT, 1),
        buffer(reply(), 200, WRITE, 0),
    ];
    assert_eq!(chain(&mut guest, &whole), Outcome::Used(120));
    assert_eq!(indirect(&mut guest, &whole, 32), Outcome::Used(120));
    let pieces = [
        buffer(request(), 1, NEXT, 5),
        buffer(reply() + 3, 197, WRITE, 0),
        buffer(request() + 41, 15, NEXT, 3),
        buffer(reply(), 2, WRITE | NEXT, 4),
        buffer(reply() + 2, 1, WRITE | NEXT, 1),
        buffer(request() + 1, 40, NEXT, 2),
    ];
    assert_eq!(chain(&mut guest, &pieces), Outcome::Used(120));
    // A table may also be the end of a chain.
    put_table(&mut guest, GuestAddress(request() + 0x8000), &pieces[1..2]);
    let mixed = [
        buffer(request(), 56, NEXT, 1),
        buffer(reply(), 3, WRITE | NEXT, 2),
        buffer(request() + 0x8000, 16, INDIRECT, 0),
    ];
    assert_eq!(chain(&mut guest, &mixed), Outcome::Used(120));
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
        let mut guest = TestShare::new();
        let outcome = chain(&mut guest, &descriptors);
        assert!(matches!(outcome, Outcome::Broken(_)), "{name}: {outcome:?}");
        // It stays so with further notifications, and can be dropped.
        let (ring, memory) = guest.connection().ring();
        ring.submit(memory, 0);
        ring.notify();
        assert!(guest.server.status().fault().is_some());
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
        let mut guest = TestShare::new();
        let outcome = indirect(&mut guest, &table, 16 * table.len() as u32);
        assert!(matches!(outcome, Outcome::Broken(_)), "{name}: {outcome:?}");
    }
}

#[test]
fn broken_rings_break_the_connection() {
    // More available chains than the queue has entries.
    let mut guest = TestShare::new();
    let (ring, memory) = guest.connection().ring();
    let index = ring.queue().layout().available_index();
    memory.write_obj(40_000_u16, index).unwrap();
    ring.notify();
    assert!(matches!(outcome(&mut guest), Outcome::Broken(_)));
    // A head outside of the table.
    let mut guest = TestShare::new();
    let (ring, memory) = guest.connection().ring();
    ring.submit(memory, 5000);
    assert!(matches!(outcome(&mut guest), Outcome::Broken(_)));
}

#[test]
fn lengths_that_are_wrong_break_the_connection() {
    for len in [0, 1, 39, 57, u32::MAX] {
        let mut guest = TestShare::new();
        put_getattr(&mut guest, len);
        let at = guest.connection().ring().0.queue().layout().descriptor(0);
        let descriptors = [
            buffer(request(), 56, NEXT, 1),
            buffer(reply(), 200, WRITE, 0),
        ];
        put_table(&mut guest, at, &descriptors);
        let (ring, memory) = guest.connection().ring();
        ring.submit(memory, 0);
        let outcome = outcome(&mut guest);
        assert!(matches!(outcome, Outcome::Broken(_)), "{len}: {outcome:?}");
    }
}

/// What the server copies out of the guest for one request is bounded, whatever memory the guest
/// gives it for that.
#[test]
fn a_request_longer_than_any_valid_one_breaks_the_connection() {
    const PIECE: u32 = 64 << 10;
    let longest: u32 = 40 + (1 << 20) + 4096;
    for (len, broken) in [(longest, false), (longest + 1, true)] {
        let mut guest = TestShare::new();
        let header = InHeader {
            len,
            opcode: opcode::BATCH_FORGET,
            unique: 2,
            ..Default::default()
        };
        // All but the header is the same memory again and again: zeroes.
        let (start, zeroes) = (request(), request() + 0x1000);
        let memory = guest.connection().memory();
        memory.write_obj(header, GuestAddress(start)).unwrap();
        let mut descriptors = vec![buffer(start, 40, NEXT, 1)];
        for next in 2..=17 {
            descriptors.push(buffer(zeroes, PIECE, NEXT, next));
        }
        descriptors.push(buffer(zeroes, 4097, 0, 0));
        let at = guest.connection().ring().0.queue().layout().descriptor(0);
        put_table(&mut guest, at, &descriptors);
        let (ring, memory) = guest.connection().ring();
        ring.submit(memory, 0);
        match outcome(&mut guest) {
            Outcome::Used(written) => assert!(!broken && written == 0),
            Outcome::Broken(fault) => assert!(broken && fault.contains("no valid request")),
        }
    }
}

#[test]
fn transfers_without_arguments_break_the_connection() {
    for opcode in [opcode::READ, opcode::WRITE] {
        let mut guest = TestShare::new();
        let body: [&[u8]; 1] = [&[0; 39]];
        let request = Request {
            opcode,
            node: ROOT,
            body: &body,
            data: 0,
            capacity: 4096,
        };
        guest.submit(0, &request);
        assert!(matches!(outcome(&mut guest), Outcome::Broken(_)));
    }
}

/// The server is dropped while its guest sends requests without a pause.
#[test]
fn a_flood_does_not_keep_the_server_from_ending() {
    let (mut guest, server) = {
        let dir = directory();
        let share = share(&dir);
        let (server, stream) = ShareServer::start(share).unwrap();
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
                capacity: 104,
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
fn invalid_requests_are_answered() {
    let mut guest = TestShare::new();
    let (file, fh) = guest.create(ROOT, "f", 0o600).unwrap();
    let node = file.nodeid;
    for code in [0, 7, 19, 31, 33, 37, 40, 41, 48, 49, 52, 4096, u32::MAX] {
        assert_eq!(guest.call(code, ROOT, &[b"12345678"]), Err(libc::ENOSYS));
    }
    // ENOSYS would keep overlayfs of Linux before 6.6 from using the share as a layer.
    for node in [ROOT, node] {
        let ioctl = guest.call(opcode::IOCTL, node, &[&[0; 32]]);
        assert_eq!(ioctl, Err(libc::ENOTTY));
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
    // Sizes beyond the end of the request.
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
    // Handles and nodes that do not exist, or belong to another inode.
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
    // It still works.
    guest.write(node, fh, 0, b"fine").unwrap();
    assert_eq!(guest.server.status().fault(), None);
    guest.assert_unharmed();
}

/// Requests with any operation, node and body.
#[test]
fn any_bytes_are_answered() {
    let mut guest = TestShare::new();
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
            // Has no arguments, and would keep the machine's disk busy.
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
            capacity: room.max(1024),
        };
        let _ = guest.exchange(&request);
    }
    assert_eq!(guest.server.status().fault(), None);
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
    let mut guest = TestShare::new();
    for _ in 0..1000 {
        let shape = chains.new_tree(&mut runner).unwrap().current();
        let descriptors: Vec<_> = shape
            .into_iter()
            .map(|(address, len, flags, next)| buffer(address, len, flags, next))
            .collect();
        if let Outcome::Broken(_) = chain(&mut guest, &descriptors) {
            guest.assert_unharmed();
            guest = TestShare::new();
        }
    }
}
