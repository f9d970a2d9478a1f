//! What a guest can make a server spend, driven from the guest's side. In a process of its own,
//! because the limits are the process's.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use boxbuild_virtiofs::fuse::abi::ROOT_ID;
use boxbuild_virtiofs::vhost_user::{Locks, ShareServer};
use boxbuild_virtiofs::{MountTag, Share};
use boxbuild_virtiofs_client::Client;
use nix::sys::resource::{Resource, setrlimit};

/// The process's limit of open files.
const FILES: usize = 1024;
/// What a session gets of it.
const BUDGET: usize = FILES / 4;

/// What the server has logged as a warning.
struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Sets the limits, and has one test run at a time: they count what the process has.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    static SETUP: std::sync::Once = std::sync::Once::new();
    let guard = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    SETUP.call_once(|| {
        setrlimit(Resource::RLIMIT_NOFILE, 256, FILES as u64).unwrap();
        log::set_logger(&WARNINGS).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    WARNINGS.0.lock().unwrap().clear();
    guard
}

fn start(root: &Path) -> (Client, ShareServer) {
    let share = Share::new(MountTag::new("share").unwrap(), root);
    let (server, stream) = ShareServer::start(share).unwrap();
    (Client::mount(stream), server)
}

/// A figure of `/proc/self/status` in KiB.
fn memory(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

/// Fault 18: inodes and handles took every descriptor of the process.
#[test]
fn inodes_and_handles_leave_the_process_three_quarters_of_its_descriptors() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    for number in 0..FILES {
        std::fs::write(dir.path().join(number.to_string()), "x").unwrap();
    }
    let (mut guest, server) = start(dir.path());
    // Half as inodes, a quarter as open files, the rest as open directories.
    let mut nodes = Vec::new();
    for number in 0..BUDGET / 2 {
        nodes.push(guest.lookup(ROOT_ID, number.to_string()).unwrap().nodeid);
    }
    let mut files = Vec::new();
    for _ in 0..BUDGET / 4 {
        files.push(guest.open(nodes[0], libc::O_RDWR).unwrap());
    }
    let mut folders = Vec::new();
    for _ in 0..BUDGET / 4 {
        folders.push(guest.opendir(ROOT_ID).unwrap());
    }
    assert!(WARNINGS.0.lock().unwrap().is_empty());

    // Every way to have one more.
    for _ in 0..3 * FILES {
        assert_eq!(guest.opendir(ROOT_ID).unwrap_err(), libc::ENFILE);
    }
    let truncate = libc::O_RDWR | libc::O_TRUNC;
    assert_eq!(guest.open(nodes[1], truncate).unwrap_err(), libc::ENFILE);
    let whole = std::fs::read(dir.path().join("1")).unwrap();
    assert_eq!(whole, b"x", "what cannot be opened is not truncated");
    assert_eq!(guest.lookup(ROOT_ID, "1000").unwrap_err(), libc::ENFILE);
    let created = guest.create(ROOT_ID, "new", 0o600);
    assert_eq!(created.unwrap_err(), libc::ENFILE);
    let made = guest.mkdir(ROOT_ID, "new", 0o700);
    assert_eq!(made.unwrap_err(), libc::ENFILE);
    let made = guest.mknod(ROOT_ID, "new", libc::S_IFREG | 0o600, 0);
    assert_eq!(made.unwrap_err(), libc::ENFILE);
    let made = guest.symlink(ROOT_ID, "new", "x");
    assert_eq!(made.unwrap_err(), libc::ENFILE);
    assert_eq!(guest.tmpfile(ROOT_ID, 0o600).unwrap_err(), libc::ENFILE);
    assert!(!dir.path().join("new").exists(), "what failed left a name");
    // What the guest has goes on working.
    assert_eq!(guest.lookup(ROOT_ID, "0").unwrap().nodeid, nodes[0]);
    assert_eq!(guest.read(nodes[0], files[0], 0, 9).unwrap(), b"x");
    let mut listed = BTreeSet::new();
    let mut offset = 0;
    loop {
        let (entries, next) = guest
            .readdir((ROOT_ID, folders[0]), offset, 4096, true)
            .unwrap();
        if entries.is_empty() {
            break;
        }
        offset = next;
        for entry in entries {
            guest.forget(entry.node, 1);
            listed.insert(entry.name);
        }
    }
    assert_eq!(listed.len(), FILES + 2);

    // The rest of the process is not in the guest's hands.
    let own = std::fs::File::open(dir.path()).unwrap();
    let mut mine = Vec::new();
    while let Ok(file) = own.try_clone() {
        mine.push(file);
    }
    assert!(
        mine.len() > FILES / 2,
        "only {} descriptors left",
        mine.len()
    );
    drop(mine);

    // The user learns of it once.
    let warnings = WARNINGS.0.lock().unwrap().clone();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    let root = dir.path().to_str().unwrap();
    for word in ["ENFILE", "(1024)", "ulimit -n", root] {
        assert!(warnings[0].contains(word), "{word}: {warnings:?}");
    }

    // What is given back can be used again.
    guest.release(nodes[0], files[0]).unwrap();
    let (entry, _) = {
        guest.releasedir(ROOT_ID, folders[0]).unwrap();
        guest.create(ROOT_ID, "new", 0o600).unwrap()
    };
    assert_eq!(guest.lookup(ROOT_ID, "new").unwrap().nodeid, entry.nodeid);
    drop((guest, server));
    // And the end of a session gives back all.
    let (mut guest, _server) = start(dir.path());
    for number in 0..BUDGET {
        guest.lookup(ROOT_ID, number.to_string()).unwrap();
    }
}

/// Two sessions of one process take no more than half, and a third finds the rest in order.
#[test]
fn all_sessions_together_leave_half() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _one) = start(dir.path());
    let (mut second, _two) = start(dir.path());
    let (mut third, _three) = start(dir.path());
    for guest in [&mut first, &mut second] {
        for _ in 0..BUDGET {
            guest.opendir(ROOT_ID).unwrap();
        }
        assert_eq!(guest.opendir(ROOT_ID).unwrap_err(), libc::ENFILE);
    }
    assert_eq!(third.opendir(ROOT_ID).unwrap_err(), libc::ENFILE);
    drop((first, _one));
    third.opendir(ROOT_ID).unwrap();
}

/// From half of its budget on, a guest keeps nothing that it does not use: the kernel gives back
/// what has no time to live.
#[test]
fn names_are_not_cached_once_half_is_taken() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut guest, _server) = start(dir.path());
    for number in 0..BUDGET {
        let entry = guest.mkdir(ROOT_ID, number.to_string(), 0o700).unwrap();
        assert_eq!(entry.attr_valid, 86_400);
        let expected = if number < BUDGET / 2 { 86_400 } else { 0 };
        assert_eq!(entry.entry_valid, expected, "{number}");
    }
}

/// Six shares of one machine had all descriptors before one of them had half of its own: each name stayed
/// in the guest's cache, and nothing could be opened any more.
#[test]
fn names_are_not_cached_once_all_sessions_have_half() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let mut sessions: Vec<_> = (0..6).map(|_| start(dir.path())).collect();
    let mut held = 0;
    'all: loop {
        for (guest, _) in &mut sessions {
            guest.opendir(ROOT_ID).unwrap();
            held += 1;
            if held == BUDGET {
                break 'all;
            }
        }
    }
    for (guest, _) in &mut sessions {
        // This one makes it more than half.
        guest.opendir(ROOT_ID).unwrap();
        let entry = guest.lookup(ROOT_ID, "file").unwrap();
        assert_eq!(entry.entry_valid, 0);
        guest.forget(entry.nodeid, 1);
    }
}

/// Fault 18: each directory handle kept 32 KiB.
#[test]
fn open_directories_cost_little_memory() {
    const NAMES: usize = 1500;
    const HANDLES: usize = 240;
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    for number in 0..NAMES {
        let name = format!("{number:0>20}");
        std::fs::write(dir.path().join(name), "").unwrap();
    }
    let (mut guest, _server) = start(dir.path());
    let mut read = Vec::new();
    for _ in 0..HANDLES {
        read.push((guest.opendir(ROOT_ID).unwrap(), 0, BTreeSet::new()));
    }
    let before = memory("VmRSS:");
    for (fh, ..) in &read {
        guest
            .readdir_in_place((ROOT_ID, *fh), 0, 4096, false)
            .unwrap();
    }
    // 240 times 32 KiB are 7.5 MiB; 64 times are 2 MiB.
    let grown = memory("VmRSS:").saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB for {HANDLES} directories");
    // In turns, so that all of them are in the middle.
    let mut done = false;
    while !done {
        done = true;
        for (fh, offset, names) in &mut read {
            let (entries, next) = guest
                .readdir((ROOT_ID, *fh), *offset, 16 << 10, false)
                .unwrap();
            *offset = next;
            done &= entries.is_empty();
            names.extend(entries.into_iter().map(|entry| entry.name));
        }
    }
    for (_, _, names) in &read {
        assert_eq!(names.len(), NAMES + 2);
    }
}

/// Suspected: SIGXFSZ ended the process that writes.
#[test]
fn a_file_beyond_the_size_limit_is_an_error_for_the_guest() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut guest, server) = start(dir.path());
    let (entry, fh) = guest.create(ROOT_ID, "file", 0o600).unwrap();
    let node = entry.nodeid;
    let (from, from_fh) = guest.create(ROOT_ID, "from", 0o600).unwrap();
    guest.write(from.nodeid, from_fh, 0, &[1; 4096]).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 1 << 20, libc::RLIM_INFINITY).unwrap();
    let beyond = guest.write(node, fh, 2 << 20, b"x");
    let grown = guest.truncate(node, 2 << 20).map(|attr| attr.size);
    let allocated = guest.fallocate((node, fh), 0, 0, 2 << 20);
    let copied = guest.copy_file_range((from.nodeid, from_fh, 0), (node, fh, 1 << 20), 4096);
    let within = guest.write(node, fh, (1 << 20) - 2, b"abcd");
    setrlimit(
        Resource::RLIMIT_FSIZE,
        libc::RLIM_INFINITY,
        libc::RLIM_INFINITY,
    )
    .unwrap();
    assert_eq!(beyond, Err(libc::EFBIG));
    assert_eq!(grown, Err(libc::EFBIG));
    assert_eq!(allocated, Err(libc::EFBIG));
    assert_eq!(copied, Err(libc::EFBIG));
    assert_eq!(within, Ok(2));
    assert_eq!(server.status().fault(), None);
}

/// Suspected: `syncfs` in a loop writes what all users of the file system have written, without
/// a pause.
#[test]
fn a_guest_that_syncs_in_a_loop_is_slowed_down() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut guest, server) = start(dir.path());
    let start = Instant::now();
    for _ in 0..11 {
        guest.syncfs(ROOT_ID).unwrap();
    }
    // 8 at once, then one a second.
    assert!(start.elapsed() >= Duration::from_secs(2));
    let end = Instant::now();
    drop((guest, server));
    assert!(end.elapsed() < Duration::from_secs(5));
}

/// The copy of a large file does not hold the server up.
#[test]
fn one_copy_is_64_mib() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let (mut guest, _server) = start(dir.path());
    let (from, from_fh) = guest.create(ROOT_ID, "from", 0o600).unwrap();
    let (to, to_fh) = guest.create(ROOT_ID, "to", 0o600).unwrap();
    guest.truncate(from.nodeid, 100 << 20).unwrap();
    let copied = guest.copy_file_range((from.nodeid, from_fh, 0), (to.nodeid, to_fh, 0), 100 << 20);
    assert_eq!(copied, Ok(64 << 20));
}

/// Owners of symbolic links are kept in memory, and not without end.
#[test]
fn owners_in_memory_have_a_limit() {
    const LIMIT: usize = 1 << 16;
    let _alone = alone();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let (mut guest, _server) = start(dir.path());
    let before = memory("VmRSS:");
    let mut made = 0;
    let error = loop {
        // One with the number of a former one may be taken for it.
        let name = made.to_string();
        let node = guest.symlink(ROOT_ID, name, "x").unwrap().nodeid;
        let result = guest.chown(node, 7, 7);
        guest.forget(node, 1);
        match result {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made <= LIMIT);
    };
    assert_eq!((error, made), (libc::ENOSPC, LIMIT));
    let grown = memory("VmRSS:").saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
}

/// Fault 27: nothing in the server holds a tree or goes through it.
#[test]
fn a_tree_of_25000_levels_costs_nothing() {
    const LEVELS: usize = 25_000;
    let _alone = alone();
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    // Without Landlock, for which the kernel goes up to the root at each name: it takes a minute.
    let locks = Locks {
        checked_names: true,
        confined: false,
    };
    let share = Share::new(MountTag::new("share").unwrap(), dir.path());
    let (server, stream) = ShareServer::start_with_locks(share, locks).unwrap();
    let mut guest = Client::mount(stream);
    let before = memory("VmRSS:");
    let mut node = ROOT_ID;
    for _ in 0..LEVELS {
        let inner = guest.mkdir(node, "d", 0o700).unwrap().nodeid;
        guest.forget(node, 1);
        node = inner;
    }
    // A guest that keeps its way down comes to the end of its budget.
    guest.forget(node, 1);
    let (mut node, mut depth) = (ROOT_ID, 0);
    let error = loop {
        match guest.lookup(node, "d") {
            Ok(inner) => (node, depth) = (inner.nodeid, depth + 1),
            Err(error) => break error,
        }
    };
    assert_eq!((error, depth), (libc::ENFILE, BUDGET));
    guest.init().unwrap();
    let grown = memory("VmRSS:").saturating_sub(before);
    assert!(grown < 4096, "{grown} KiB");

    assert_eq!(server.status().fault(), None);
    drop((guest, server));
    // Not by this process, whose stack is for shorter ones.
    let removed = Command::new("rm")
        .arg("-r")
        .arg(dir.path().join("d"))
        .status();
    assert!(removed.unwrap().success());
}
