//! Builds that fail: each with its own message, none with a result.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use boxbuild_tests::{ProcessOutput, Sandbox, executable, names, skip};

crate::tests! {
    Engine:
        a_failed_build_tells_why,
        an_early_power_off_is_a_failure,
        a_panic_is_a_failure,
        a_reboot_is_a_failure,
        a_hung_guest_is_stopped,
        a_broken_disk,
        a_broken_kernel,
        a_full_disk_on_the_host;
    Program:
        the_time_is_over,
        a_full_disk_in_the_guest,
        a_box_without_memory_is_told_to_have_more,
        a_result_that_cannot_be_bundled,
        a_forged_verdict_does_not_count;
    Qemu:
        a_host_without_threads_is_told,
        qemu_that_does_not_start,
        a_killed_qemu;
}

/// Runs `script` in a target folder with an earlier result and something of the user's own.
fn fail(script: &str, front: &[&str], code: i32, texts: &[&str]) -> (Sandbox, ProcessOutput) {
    let sandbox = Sandbox::new(script);
    fs::create_dir(sandbox.target()).unwrap();
    fs::write(sandbox.target().join("result.code"), "0\n").unwrap();
    fs::write(sandbox.target().join("precious"), "mine").unwrap();
    let output = sandbox.build(front, &[]);
    output.expect(code, texts);
    assert_eq!(output.stdout, "", "a failed build names no result");
    let left = names(&sandbox.target());
    assert!(!left.contains(&"image".to_owned()), "{left:?}");
    assert_eq!(
        fs::read_to_string(sandbox.target().join("precious")).unwrap(),
        "mine"
    );
    if let Ok(code) = fs::read_to_string(sandbox.target().join("result.code")) {
        assert_ne!(code.trim(), "0", "a stale verdict must not survive");
    }
    sandbox.assert_nothing_left();
    (sandbox, output)
}

fn a_failed_build_tells_why() {
    let (sandbox, _) = fail(
        "touch /result/image; echo '[ ERROR   ]: 00:00:00 | KiwiError: no package foo' >>$log
         return 7",
        &[],
        1,
        &[
            "KiwiError: no package foo",
            "kiwi's exit code 7",
            "result.log",
        ],
    );
    assert_eq!(
        names(&sandbox.target()),
        ["precious", "result.code", "result.log"]
    );
    assert_eq!(
        fs::read_to_string(sandbox.target().join("result.code")).unwrap(),
        "7\n"
    );
}

fn an_early_power_off_is_a_failure() {
    let script = "touch /bundle/image; echo 0 >/bundle/result.code; sync
                  echo o >/proc/sysrq-trigger; sleep 60";
    fail(script, &[], 1, &["powered off before"]);
}

fn a_panic_is_a_failure() {
    let script = "touch /bundle/image; echo c >/proc/sysrq-trigger; sleep 60";
    fail(script, &[], 1, &["kernel panicked: sysrq triggered crash"]);
}

fn a_reboot_is_a_failure() {
    fail(
        "echo b >/proc/sysrq-trigger; sleep 60",
        &[],
        1,
        &["rebooted"],
    );
}

fn a_hung_guest_is_stopped() {
    fail(
        "touch /bundle/image; sleep 1000",
        &["--timeout-idle", "15s"],
        124,
        &["no sign of life"],
    );
}

fn the_time_is_over() {
    fail(
        "while :; do :; done",
        &["--timeout", "12s"],
        124,
        &["--timeout"],
    );
}

fn a_full_disk_in_the_guest() {
    let script = "dd if=/dev/zero of=/result/image bs=1M 2>>$log";
    let texts = [
        "No space left on device",
        "the disk of the box is full",
        "--disk-size",
    ];
    fail(script, &[], 1, &texts);
}

/// It was a bare "Killed".
fn a_box_without_memory_is_told_to_have_more() {
    // Each reads a block as a whole and has nobody to give it to.
    let script = "for i in 1 2 3 4; do dd if=/dev/zero bs=100M 2>/dev/null | sleep 10 & done; wait
                  return 9";
    let texts = [
        "the box ran out of memory (256 MiB)",
        "ended dd",
        "--box-memory",
    ];
    fail(script, &["--box-memory", "256M"], 1, &texts);
}

fn a_result_that_cannot_be_bundled() {
    // `cp` of a folder without -r fails half-way: the first file is in the share already.
    fail(
        "touch /result/a-file /result/image; mkdir /result/folder",
        &[],
        1,
        &["exit code 1"],
    );
}

fn a_forged_verdict_does_not_count() {
    let script = "ln -sf /proc/version /bundle/result.code
                  mkdir /bundle/image; ln -s / /bundle/image/root; return 1";
    fail(script, &[], 1, &[]);
}

fn qemu_that_does_not_start() {
    let (sandbox, _) = fail(
        "",
        &["--cpu", "nonsense"],
        3,
        &["virtual machine failed", "nonsense"],
    );
    assert!(!sandbox.target().join("result.log").exists());
    fail("", &["--machine", "nonsense"], 3, &["nonsense"]);
}

fn a_killed_qemu() {
    let sandbox = Sandbox::new("sleep 1000");
    let build = sandbox.start_until(&[], "boot");
    let qemu = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| {
            let parent = format!("PPid:\t{}\n", build.pid());
            fs::read_to_string(format!("/proc/{pid}/status"))
                .is_ok_and(|status| status.contains(&parent) && status.starts_with("Name:\tqemu"))
        })
        .expect("QEMU is a child");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(qemu),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    build.finish().expect(3, &["killed by signal 9"]);
    sandbox.assert_nothing_left();
}

fn a_broken_disk() {
    let sandbox = Sandbox::new("");
    let disk = sandbox.store().join("small/disk.qcow2");
    let good = fs::read(&disk).unwrap();
    fs::remove_file(&disk).unwrap();
    fs::write(&disk, &good[..good.len() - 1]).unwrap();
    sandbox
        .build(&[], &[])
        .expect(3, &["damaged", "boxbuild box rm small"]);
    let mut bad = good.clone();
    bad[..4].copy_from_slice(b"oops");
    fs::write(&disk, &bad).unwrap();
    sandbox
        .build(&[], &[])
        .expect(3, &["disk.qcow2", "not a qcow2 image"]);
    let mut bad = good;
    bad[40..48].copy_from_slice(&[0xff; 8]); // the L1 table's offset
    fs::write(&disk, &bad).unwrap();
    sandbox.build(&[], &[]).expect(3, &["virtual machine"]);
    fs::remove_file(&disk).unwrap();
    sandbox.build(&[], &[]).expect(3, &["damaged"]);
}

fn a_broken_kernel() {
    let sandbox = Sandbox::new("");
    let kernel = sandbox.store().join("small/kernel");
    let length = fs::metadata(&kernel).unwrap().len();
    fs::remove_file(&kernel).unwrap();
    fs::write(&kernel, vec![0x5a; usize::try_from(length).unwrap()]).unwrap();
    // Engines differ in what they do with it, but the guest never shows a sign of life. The unpacked
    // kernel that other builds of the box have kept is not used.
    let mut command = sandbox.build_command(&["--timeout-idle", "10s"], &[]);
    command.env("XDG_CACHE_HOME", sandbox.path("cache"));
    let output = ProcessOutput::of(&mut command);
    assert!(matches!(output.code, 1 | 3), "{output:?}");
    assert_eq!(output.stdout, "");
    sandbox.assert_nothing_left();
}

/// The overlay's file system is full, then the target's.
fn a_full_disk_on_the_host() {
    let mounts = Command::new("unshare")
        .args([
            "--map-root-user",
            "--mount",
            "mount",
            "-t",
            "tmpfs",
            "tmpfs",
            "/mnt",
        ])
        .output();
    if !mounts.is_ok_and(|output| output.status.success()) {
        return skip(
            "a_full_disk_on_the_host",
            "this host allows no user namespaces",
        );
    }
    let on_small_disk = |sandbox: &Sandbox, folder: &Path, prepare: &str| {
        let build = sandbox.build_command(&[], &[]);
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg(format!("set -e; {prepare}; shift; exec \"$@\""))
            .args(["sh".as_ref(), folder.as_os_str(), build.get_program()])
            .args(build.get_args());
        for (name, value) in build.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        ProcessOutput::of(&mut command)
    };
    // A build does not wait for its disk; a kernel that may keep little back writes at once.
    let script = "echo 4194304 >/proc/sys/vm/dirty_bytes
                  dd if=/dev/urandom of=/result/image bs=1M count=80";

    let sandbox = Sandbox::new(script);
    // The box's files and 40 MiB more.
    let prepare = "size=$(du -sk \"$1\" | cut -f1); mv \"$1/small\" \"$1.small\"
                   mount -t tmpfs -o size=$((size + 40960))k tmpfs \"$1\"
                   cp -r \"$1.small\" \"$1/small\"; mv \"$1.small\" \"$1.was\"";
    on_small_disk(&sandbox, &sandbox.store(), prepare).expect(3, &["is full", "free some space"]);

    let sandbox = Sandbox::new(script);
    fs::create_dir(sandbox.target()).unwrap();
    let prepare = "mount -t tmpfs -o size=40m tmpfs \"$1\"";
    let output = on_small_disk(&sandbox, &sandbox.target(), prepare);
    let words = format!("the file system of {} is full", sandbox.target().display());
    output.expect(3, &[&words, "free some space"]);
    sandbox.assert_nothing_left();
}

/// Under `ulimit -u`, some thread or process cannot be started: another one with each limit. A thread that
/// could not be was a panic.
fn a_host_without_threads_is_told() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        return skip(
            "a_host_without_threads_is_told",
            "a limit of its own takes a user of its own: only root can be one",
        );
    }
    let sandbox = Sandbox::new("touch /result/image");
    // All of it is the user's, but for the files of the box, which other tests share.
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(sandbox.path(""), open).unwrap();
    fs::create_dir(sandbox.target()).unwrap();
    for name in ["home", "tmp", "store", "store/small", "target"] {
        chown(sandbox.path(name), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let program = sandbox.path("boxbuild");
    executable::copy(sandbox.command([""]).get_program().as_ref(), &program);
    let build = sandbox.build_command(&["--boot", "fast"], &[]);
    let mut refused = 0;
    for limit in 1..=12 {
        let mut limited = Command::new("setpriv");
        limited.args([
            "--reuid",
            &NOBODY.to_string(),
            "--regid",
            &NOBODY.to_string(),
        ]);
        limited.args(["--clear-groups", "--", "prlimit"]);
        limited.arg(format!("--nproc={limit}:{limit}"));
        limited
            .arg("--")
            .arg(build.get_program())
            .args(build.get_args());
        for (name, value) in build.get_envs() {
            limited.env(name, value.unwrap_or_default());
        }
        limited.env("XDG_CACHE_HOME", sandbox.path("home/cache"));
        let output = ProcessOutput::of(&mut limited);
        let said = &output.stderr;
        assert!(!said.contains("panicked"), "{limit}: {said}");
        assert!(output.code != 101 && output.code != 134, "{limit}: {said}");
        if output.code != 0 {
            refused += 1;
            let words = [
                "temporarily unavailable",
                "does not print its version",
                "no thread",
            ];
            assert!(
                words.iter().any(|word| said.contains(word)),
                "{limit}: {said}"
            );
        }
    }
    assert!(refused > 3, "the limit has no effect");
}
