//! The processes of a build that work on what its guest says.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use boxbuild_jail::Confinement;
use boxbuild_tests::leftovers::jailed;
use boxbuild_tests::{Sandbox, env};
use nix::sys::signal::Signal;

crate::tests! {
    Engine:
        each_thread_of_a_running_machine_is_confined;
    Program:
        an_option_insists_on_confinement;
}

const ENDLESS: &str = "touch /bundle/image; echo started >>$log; while :; do :; done";

fn each_thread_of_a_running_machine_is_confined() {
    let sandbox = Sandbox::new(ENDLESS);
    let started = sandbox.start_until(&["--verbose"], "started");
    let processes = jailed(started.pid().as_raw());
    let mut names = Vec::new();
    for process in &processes {
        // Of a process that cannot be dumped, all of this belongs to root, and so does its memory.
        assert_eq!(fs::metadata(process.join("mem")).unwrap().uid(), 0);
        for thread in fs::read_dir(process.join("task")).unwrap() {
            names.push(confined(&thread.unwrap().path()));
        }
    }
    started.signal(Signal::SIGINT);
    started.finish().expect(130, &[]);
    let wanted: &[&str] = match env::engine().as_str() {
        "kvm" => &[
            "machine",
            "vcpu0",
            "virtio-blk",
            "virtio-console",
            "virtio-fs",
            "virtio-net",
            "virtio-rng",
        ],
        // QEMU is not of this program; what serves its shares is.
        _ => &[],
    };
    for wanted in wanted {
        assert!(names.iter().any(|name| name == wanted), "{names:?}");
    }
    assert!(!names.is_empty());
    sandbox.assert_nothing_left();
}

/// Fails unless a thread has a filter of its own, and gains no privileges. Returns its name.
fn confined(thread: &Path) -> String {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1", "{status}");
    // CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER are left to root.
    let capabilities = u64::from_str_radix(&field("CapPrm:"), 16).unwrap();
    assert_eq!(capabilities & !0xe, 0, "{status}");
    if Confinement::of_host().seccomp {
        assert_eq!(field("Seccomp:"), "2", "{status}");
    }
    field("Name:")
}

fn an_option_insists_on_confinement() {
    let sandbox = Sandbox::new("echo image >/result/image");
    let output = sandbox.build(&["--require-confinement"], &[]);
    if Confinement::of_host().weakness().is_some() {
        output.expect(3, &["cannot confine", "--require-confinement"]);
    } else {
        output.expect(0, &[]);
    }
}
