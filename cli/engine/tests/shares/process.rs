//! What the process does, and what its parent learns.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use boxbuild_engine::qemu::shares::{Fault, ShareProcess};
use boxbuild_engine::{MountTag, Share};
use boxbuild_jail::{Confinement, Program};
use boxbuild_virtiofs::fuse::abi::ROOT_ID as ROOT;
use boxbuild_vmm_driver::Descriptor;
use virtio_bindings::virtio_ring::VRING_DESC_F_NEXT;

use crate::support::{Machine, this_program, wait};
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    two_shares_are_served_and_counted,
    each_thread_is_confined,
    a_driver_that_breaks_the_protocol_is_reported,
    a_process_that_ends_is_reported,
    a_full_session_is_a_note,
    a_share_that_cannot_be_served_is_an_error,
    what_the_guest_left_open_does_not_keep_the_process,
];

fn two_shares_are_served_and_counted() {
    let mut machine = Machine::start();
    let [one, two] = machine.guests.as_mut_slice() else {
        unreachable!()
    };
    let (entry, fh) = one.create(ROOT, "made", 0o644).unwrap();
    one.write(entry.nodeid, fh, 0, b"twelve bytes").unwrap();
    let made = std::fs::read(machine.dir.path().join("one/made")).unwrap();
    assert_eq!(made, b"twelve bytes");
    let file = two.lookup(ROOT, "file").unwrap().nodeid;
    let fh = two.open(file, libc::O_RDONLY).unwrap();
    assert_eq!(two.read(file, fh, 0, 9).unwrap(), b"two");
    assert_eq!(two.create(ROOT, "x", 0o600).unwrap_err(), libc::EROFS);
    let process = &mut machine.process;
    let traffic = process.traffic();
    wait(|| {
        assert!(process.news().notes.is_empty());
        (traffic[0].from_guest() == 12 && traffic[1].to_guest() == 3).then_some(())
    });
    assert_eq!(process.fault(), None);
    machine.guests.clear();
    let (fault, news) = machine.process.finish();
    assert_eq!((fault, news.notes.len()), (None, 0));
}

/// Fault 26: no filter on any thread, no limits, core dumps with the guest's memory.
fn each_thread_is_confined() {
    let mut machine = Machine::start();
    for guest in &mut machine.guests {
        guest.lookup(ROOT, "file").unwrap();
    }
    let host = Confinement::of_host();
    assert_eq!(machine.weakness, host.weakness());
    let pid = machine.process.pid().unwrap();
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1", "{status}");
        if host.seccomp {
            assert_eq!(field("Seccomp:"), "2", "{status}");
            let filters: u32 = field("Seccomp_filters:").parse().unwrap();
            *threads.entry((field("Name:"), filters)).or_insert(0) += 1;
        }
    }
    if host.seccomp {
        // One is that of clone3. The last two of a share have narrowed what they inherited.
        let expected = [
            (("shares".to_owned(), 2), 1),
            (("share".to_owned(), 2), 2),
            (("virtiofs-io".to_owned(), 3), 2),
            (("vring_worker".to_owned(), 3), 2),
        ];
        assert_eq!(threads, BTreeMap::from(expected));
    }
    let limits = machine.proc("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core"));
    let core: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"]);
    // Not even its own user can trace it, or look into its memory.
    let environment = std::fs::read(format!("/proc/{pid}/environ"));
    match nix::unistd::geteuid().is_root() {
        true => assert_eq!(environment.unwrap(), b""),
        false => assert!(environment.is_err(), "it is dumpable"),
    }
}

fn a_driver_that_breaks_the_protocol_is_reported() {
    let mut machine = Machine::start();
    let (ring, memory) = machine.guests[0].connection().ring();
    let loops = Descriptor::new(0, 64, VRING_DESC_F_NEXT as u16, 0);
    ring.queue().write_descriptor(memory, 0, loops).unwrap();
    ring.submit(memory, 0);
    let process = &mut machine.process;
    let fault = wait(|| {
        process.news();
        process.fault().cloned()
    });
    assert!(matches!(fault, Fault::Guest(_)), "{fault:?}");
    // The other share is not concerned.
    machine.guests[1].lookup(ROOT, "file").unwrap();
}

fn a_process_that_ends_is_reported() {
    let mut machine = Machine::start();
    let pid = i32::try_from(machine.process.pid().unwrap()).unwrap();
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let process = &mut machine.process;
    let fault = wait(|| {
        process.news();
        process.fault().cloned()
    });
    assert_eq!(fault, Fault::Server(String::from("it was killed")));
    assert_eq!(process.pid(), None);
}

/// Fault 18: the user learns of the limit, fit for a terminal.
fn a_full_session_is_a_note() {
    let before = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let (soft, _) = before.unwrap();
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    if soft > 512 {
        // The limit of a process is that of its parent: this test again, with a lower one.
        let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
        // SAFETY: setrlimit(2) is async-signal-safe.
        unsafe {
            use std::os::unix::process::CommandExt;
            command.pre_exec(move || Ok(nix::sys::resource::setrlimit(limit, 512, 512)?));
        }
        command.args(["--exact", "a_full_session_is_a_note"]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let mut machine = Machine::start();
    let guest = &mut machine.guests[0];
    let error = loop {
        if let Err(error) = guest.opendir(ROOT) {
            break error;
        }
    };
    assert_eq!(error, libc::ENFILE);
    let process = &mut machine.process;
    let notes = wait(|| Some(process.news().notes).filter(|notes| !notes.is_empty()));
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].contains("the limit of open files (512)"),
        "{notes:?}"
    );
}

fn a_share_that_cannot_be_served_is_an_error() {
    let share = |path: &str| Share::new(MountTag::new("one").unwrap(), path);
    let missing = ShareProcess::start(&this_program(), &[share("/nowhere/at-all")], 1);
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("/nowhere/at-all"), "{error}");
    // A program that is none of ours.
    let program = Program::at("/bin/false");
    let dir = tempfile::tempdir().unwrap();
    let shares = [share(dir.path().to_str().unwrap())];
    let started = ShareProcess::start(&program, &shares, 1);
    let error = started.and_then(|(starting, _ends)| starting.ready().map(|_| ()));
    assert!(error.is_err());
}

fn what_the_guest_left_open_does_not_keep_the_process() {
    let mut machine = Machine::start();
    let guest = &mut machine.guests[0];
    guest.create(ROOT, "left", 0o600).unwrap();
    guest.opendir(ROOT).unwrap();
    let start = Instant::now();
    machine.guests.clear();
    let (fault, news) = machine.process.finish();
    assert_eq!((fault, news.notes.len()), (None, 0));
    assert!(start.elapsed() < Duration::from_secs(5));
}
