//! The workloads. What a workload needs is created before, and removed after the measurement.

use std::fs;

use boxbuild_virtiofs::fuse::abi::{self, ROOT_ID, opcode};
use boxbuild_virtiofs_client::{Client, Request};
use vm_memory::{ByteValued, Bytes};

use crate::servers::{DEPTH, Running};

/// The server's reply, or its errno.
type Answer = Result<u64, i32>;

/// One workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Unit of the count.
    pub(crate) unit: &'static str,
    /// Creates what the work needs; not measured.
    pub(crate) prepare: fn(&mut Running) -> std::io::Result<()>,
    /// Does the work; returns the count.
    pub(crate) work: fn(&mut Client) -> Answer,
    /// Gives back the guest's references; not measured.
    pub(crate) finish: fn(&mut Client) -> Answer,
}

const NAMES: u64 = 1000;
const KIB: u32 = 1024;
const MIB: u32 = 1024 * KIB;
/// Size of the file for transfers.
const BIG: u64 = 64 << 20;
/// Transfers of 4 KiB that are measured at a time.
const SMALL: u64 = 16_384;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "lookup",
        unit: "operations",
        prepare: names,
        work: lookup,
        finish: forget_names,
    },
    Workload {
        name: "lookup+forget",
        unit: "operations",
        prepare: names,
        work: lookup_forget,
        finish: nothing,
    },
    Workload {
        name: "lookup, 16 at once",
        unit: "operations",
        prepare: names,
        work: lookup_deep,
        finish: forget_names,
    },
    Workload {
        name: "getattr",
        unit: "operations",
        prepare: names,
        work: getattr,
        finish: nothing,
    },
    Workload {
        name: "create+unlink",
        unit: "files",
        prepare: empty,
        work: create_unlink,
        finish: nothing,
    },
    Workload {
        name: "readdirplus",
        unit: "entries",
        prepare: names,
        work: readdirplus,
        finish: nothing,
    },
    Workload {
        name: "write 1 MiB",
        unit: "MiB",
        prepare: big,
        work: write_large,
        finish: nothing,
    },
    Workload {
        name: "read 1 MiB",
        unit: "MiB",
        prepare: big,
        work: read_large,
        finish: nothing,
    },
    Workload {
        name: "write 4 KiB",
        unit: "operations",
        prepare: big,
        work: write_small,
        finish: nothing,
    },
    Workload {
        name: "read 4 KiB",
        unit: "operations",
        prepare: big,
        work: read_small,
        finish: nothing,
    },
    Workload {
        name: "random write 4 KiB",
        unit: "operations",
        prepare: big,
        work: write_random,
        finish: nothing,
    },
    Workload {
        name: "random read 4 KiB",
        unit: "operations",
        prepare: big,
        work: read_random,
        finish: nothing,
    },
    Workload {
        name: "random read 4 KiB, 16 at once",
        unit: "operations",
        prepare: big,
        work: read_deep,
        finish: nothing,
    },
    Workload {
        name: "10,000 small files",
        unit: "files",
        prepare: empty,
        work: small_files,
        finish: nothing,
    },
];

fn nothing(_: &mut Client) -> Answer {
    Ok(0)
}

/// An empty share.
fn empty(server: &mut Running) -> std::io::Result<()> {
    for entry in fs::read_dir(&server.root)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// A directory with many files.
fn names(server: &mut Running) -> std::io::Result<()> {
    let dir = server.root.join("names");
    if dir.is_dir() {
        return Ok(());
    }
    empty(server)?;
    fs::create_dir(&dir)?;
    for number in 0..NAMES {
        fs::write(dir.join(name(number)), "")?;
    }
    open_to_all(&dir)
}

/// One large file, in the page cache.
fn big(server: &mut Running) -> std::io::Result<()> {
    let path = server.root.join("big");
    if !path.is_file() {
        empty(server)?;
        fs::write(&path, vec![1; BIG as usize])?;
        open_to_all(&path)?;
    }
    fs::read(&path).map(drop)
}

/// Allows everything to everyone, as the server may run as another user.
fn open_to_all(path: &std::path::Path) -> std::io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777))
}

fn name(number: u64) -> String {
    format!("file-{number:04}")
}

fn lookup(guest: &mut Client) -> Answer {
    let dir = guest.lookup(ROOT_ID, "names")?.nodeid;
    let names: Vec<_> = (0..NAMES).map(name).collect();
    for _ in 0..10 {
        for name in &names {
            guest.lookup(dir, name)?;
        }
    }
    Ok(10 * NAMES)
}

fn lookup_forget(guest: &mut Client) -> Answer {
    let dir = guest.lookup(ROOT_ID, "names")?.nodeid;
    let names: Vec<_> = (0..NAMES).map(name).collect();
    for _ in 0..10 {
        let mut nodes = Vec::with_capacity(names.len());
        for name in &names {
            nodes.push((guest.lookup(dir, name)?.nodeid, 1));
        }
        guest.batch_forget(&nodes);
    }
    guest.forget(dir, 1);
    Ok(10 * NAMES)
}

fn forget_names(guest: &mut Client) -> Answer {
    let dir = guest.lookup(ROOT_ID, "names")?.nodeid;
    let mut nodes = vec![(dir, u64::MAX)];
    for number in 0..NAMES {
        nodes.push((guest.lookup(dir, name(number))?.nodeid, u64::MAX));
    }
    nodes.rotate_left(1);
    guest.batch_forget(&nodes);
    Ok(0)
}

/// Keeps as many requests in flight as there are slots.
fn deep<'a>(guest: &mut Client, count: u64, request: impl Fn(u64) -> Request<'a>) -> Answer {
    let mut sent = 0;
    let mut send = |guest: &mut Client, slot: u16| {
        if sent < count {
            guest.submit(slot, &request(sent));
            sent += 1;
        }
    };
    for slot in 0..DEPTH {
        send(guest, slot);
    }
    for _ in 0..count {
        let reply = guest.reply();
        reply.result?;
        send(guest, reply.slot);
    }
    Ok(count)
}

fn lookup_deep(guest: &mut Client) -> Answer {
    let dir = guest.lookup(ROOT_ID, "names")?.nodeid;
    let names: Vec<_> = (0..NAMES).map(|number| name(number) + "\0").collect();
    let bodies: Vec<[&[u8]; 1]> = names.iter().map(|name| [name.as_bytes()]).collect();
    deep(guest, 10 * NAMES, |number| Request {
        opcode: opcode::LOOKUP,
        node: dir,
        body: &bodies[(number % NAMES) as usize],
        data: 0,
        capacity: size_of::<abi::EntryOut>() as u32,
    })
}

fn getattr(guest: &mut Client) -> Answer {
    let dir = guest.lookup(ROOT_ID, "names")?.nodeid;
    let node = guest.lookup(dir, name(0))?.nodeid;
    for _ in 0..10_000 {
        guest.getattr(node)?;
    }
    guest.batch_forget(&[(node, 1), (dir, 1)]);
    Ok(10_000)
}

fn create_unlink(guest: &mut Client) -> Answer {
    for number in 0..2000 {
        let name = name(number);
        let (entry, fh) = guest.create(ROOT_ID, &name, 0o644)?;
        guest.release(entry.nodeid, fh)?;
        guest.unlink(ROOT_ID, &name)?;
        guest.forget(entry.nodeid, 1);
    }
    Ok(2000)
}

fn readdirplus(guest: &mut Client) -> Answer {
    let dir = guest.lookup(ROOT_ID, "names")?.nodeid;
    let mut entries = 0;
    for _ in 0..5 {
        let found = guest.list(dir, true, 32_768)?;
        entries += found.len() as u64;
        let nodes: Vec<_> = found
            .iter()
            .filter(|f| f.node != 0)
            .map(|f| (f.node, 1))
            .collect();
        guest.batch_forget(&nodes);
    }
    guest.forget(dir, 1);
    Ok(entries)
}

/// Opens the large file, does something with it, and closes it.
fn with_big(guest: &mut Client, work: impl FnOnce(&mut Client, u64, u64) -> Answer) -> Answer {
    let node = guest.lookup(ROOT_ID, "big")?.nodeid;
    let fh = guest.open(node, libc::O_RDWR)?;
    let count = work(guest, node, fh)?;
    guest.release(node, fh)?;
    guest.forget(node, 1);
    Ok(count)
}

fn write_large(guest: &mut Client) -> Answer {
    with_big(guest, |guest, node, fh| {
        for offset in (0..BIG).step_by(MIB as usize) {
            guest.write_in_place(node, fh, offset, MIB)?;
        }
        Ok(BIG >> 20)
    })
}

fn read_large(guest: &mut Client) -> Answer {
    with_big(guest, |guest, node, fh| {
        for _ in 0..4 {
            for offset in (0..BIG).step_by(MIB as usize) {
                guest.read_in_place(node, fh, offset, MIB)?;
            }
        }
        Ok((4 * BIG) >> 20)
    })
}

fn write_small(guest: &mut Client) -> Answer {
    with_big(guest, |guest, node, fh| {
        for number in 0..SMALL {
            guest.write_in_place(node, fh, number * 4096, 4 * KIB)?;
        }
        Ok(SMALL)
    })
}

fn read_small(guest: &mut Client) -> Answer {
    with_big(guest, |guest, node, fh| {
        for number in 0..SMALL {
            guest.read_in_place(node, fh, number * 4096, 4 * KIB)?;
        }
        Ok(SMALL)
    })
}

/// Returns an offset in the large file, from a fixed sequence (a linear congruential generator with
/// Knuth's constants).
fn place(number: u64) -> u64 {
    let mixed = number
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (mixed >> 33) % (BIG / 4096) * 4096
}

fn write_random(guest: &mut Client) -> Answer {
    with_big(guest, |guest, node, fh| {
        for number in 0..SMALL {
            guest.write_in_place(node, fh, place(number), 4 * KIB)?;
        }
        Ok(SMALL)
    })
}

fn read_random(guest: &mut Client) -> Answer {
    with_big(guest, |guest, node, fh| {
        for number in 0..SMALL {
            guest.read_in_place(node, fh, place(number), 4 * KIB)?;
        }
        Ok(SMALL)
    })
}

fn read_deep(guest: &mut Client) -> Answer {
    with_big(guest, |guest, node, fh| {
        let requests: Vec<_> = (0..SMALL)
            .map(|number| abi::ReadIn {
                fh,
                offset: place(number),
                size: 4 * KIB,
                ..Default::default()
            })
            .collect();
        let bodies: Vec<[&[u8]; 1]> = requests.iter().map(|r| [r.as_slice()]).collect();
        deep(guest, SMALL, |number| Request {
            opcode: opcode::READ,
            node,
            body: &bodies[number as usize],
            data: 0,
            capacity: 4 * KIB,
        })
    })
}

/// Writes files in many directories, then reads each, as unpacking and compiling do.
fn small_files(guest: &mut Client) -> Answer {
    let (directories, files) = (100, 100);
    guest
        .connection()
        .memory()
        .write_slice(&[1; 4096], Client::outgoing(0))
        .expect("a slot is in memory");
    for directory in 0..directories {
        let dir = guest
            .mkdir(ROOT_ID, format!("dir-{directory}"), 0o755)?
            .nodeid;
        for file in 0..files {
            let (entry, fh) = guest.create(dir, name(file), 0o644)?;
            guest.write_in_place(entry.nodeid, fh, 0, 4096)?;
            guest.release(entry.nodeid, fh)?;
            guest.forget(entry.nodeid, 1);
        }
        guest.forget(dir, 1);
    }
    for directory in 0..directories {
        let dir = guest.lookup(ROOT_ID, format!("dir-{directory}"))?.nodeid;
        for file in 0..files {
            let node = guest.lookup(dir, name(file))?.nodeid;
            let fh = guest.open(node, libc::O_RDONLY)?;
            guest.read_in_place(node, fh, 0, 4096)?;
            guest.release(node, fh)?;
            guest.forget(node, 1);
        }
        guest.forget(dir, 1);
    }
    Ok(directories * files)
}
