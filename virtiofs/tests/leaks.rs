//! A server releases everything that a guest makes it hold: descriptors, threads and memory. One
//! test in a process of its own, because it counts what the whole process has.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::path::Path;

use boxbuild_virtiofs::fuse::abi::ROOT_ID;
use boxbuild_virtiofs::vhost_user::ShareServer;
use boxbuild_virtiofs::{MountTag, Share};
use boxbuild_virtiofs_client::Client;
use boxbuild_vmm_driver::Descriptor;
use virtio_bindings::virtio_ring::VRING_DESC_F_NEXT;

/// Files that the guest holds at a time.
const FILES: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
}

fn held() -> Held {
    let count = |dir| std::fs::read_dir(dir).unwrap().count();
    Held {
        descriptors: count("/proc/self/fd"),
        threads: count("/proc/self/task"),
    }
}

/// Resident memory in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.unwrap().parse().unwrap()
}

fn start(root: &Path) -> (Client, ShareServer) {
    let (server, stream) =
        ShareServer::start(Share::new(MountTag::new("share").unwrap(), root)).unwrap();
    (Client::mount(stream), server)
}

/// Does everything that makes the server hold something, and undoes it.
fn round(guest: &mut Client) {
    let mut nodes = Vec::new();
    for number in 0..FILES {
        let name = format!("file-{number}");
        let (entry, fh) = guest.create(ROOT_ID, &name, 0o600).unwrap();
        guest.write(entry.nodeid, fh, 0, b"data").unwrap();
        assert_eq!(guest.lookup(ROOT_ID, &name).unwrap().nodeid, entry.nodeid);
        nodes.push((entry.nodeid, fh));
    }
    for entry in guest.list(ROOT_ID, true, 4096).unwrap() {
        guest.forget(entry.node, 1);
    }
    for number in 0..FILES {
        guest.unlink(ROOT_ID, format!("file-{number}")).unwrap();
        assert!(guest.lookup(ROOT_ID, format!("file-{number}")).is_err());
    }
    for (node, fh) in &nodes {
        guest.release(*node, *fh).unwrap();
    }
    let nodes: Vec<_> = nodes.iter().map(|(node, _)| (*node, 2)).collect();
    guest.batch_forget(&nodes);
    // What fails holds nothing either.
    guest.symlink(ROOT_ID, "link", "x").unwrap();
    let link = guest.lookup(ROOT_ID, "link").unwrap().nodeid;
    guest.open(link, libc::O_RDONLY).unwrap_err();
    guest.opendir(link).unwrap_err();
    guest.create(ROOT_ID, "link", 0o600).unwrap_err();
    guest.tmpfile(link, 0o600).unwrap_err();
    guest.lookup(ROOT_ID, "..").unwrap_err();
    guest.unlink(ROOT_ID, "link").unwrap();
    guest.forget(link, 2);
}

/// Makes a connection whose driver violates the protocol while the guest has files open.
fn broken(root: &Path) {
    let (mut guest, server) = start(root);
    guest.create(ROOT_ID, "left", 0o600).unwrap();
    guest.unlink(ROOT_ID, "left").unwrap();
    let (ring, memory) = guest.connection().ring();
    let loops = Descriptor::new(0, 64, VRING_DESC_F_NEXT as u16, 0);
    ring.queue().write_descriptor(memory, 0, loops).unwrap();
    ring.submit(memory, 0);
    while server.status().fault().is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn everything_is_released() {
    let dir = tempfile::tempdir().unwrap();
    let before = held();
    let (mut guest, server) = start(dir.path());
    let connected = held();
    for _ in 0..10 {
        round(&mut guest);
        assert_eq!(held(), connected);
    }
    let used = memory();
    for _ in 0..50 {
        round(&mut guest);
    }
    assert_eq!(held(), connected);
    let grown = memory().saturating_sub(used);
    // What 50 rounds hold would be far more if it stayed.
    assert!(grown < 4096, "{grown} KiB more after the same work again");

    // A guest that sends invalid requests.
    for _ in 0..10_000 {
        let huge = [0xff; 200];
        for opcode in [21, 22, 23, 28, 42, 44] {
            if opcode == 42 {
                guest.urgent(opcode, ROOT_ID, &[&huge]);
            } else {
                let _ = guest.call(opcode, ROOT_ID, &[&huge]);
            }
        }
    }
    assert_eq!(held(), connected);
    let grown = memory().saturating_sub(used);
    assert!(grown < 8192, "{grown} KiB more after invalid requests");

    // A guest that closes the connection without closing its files.
    guest.create(ROOT_ID, "left", 0o600).unwrap();
    guest.unlink(ROOT_ID, "left").unwrap();
    drop((guest, server));
    assert_eq!(held(), before);

    for _ in 0..50 {
        broken(dir.path());
    }
    assert_eq!(held(), before);
}
