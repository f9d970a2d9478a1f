//! The host's memory, time and descriptors, which a guest can ask for more of than there is.

use std::process::Command;
use std::time::{Duration, Instant};

use boxbuild_tests::command::with_descriptors;
use boxbuild_tests::{ProcessOutput, Running, Watch, scaled_timeout};
use nix::sys::signal::Signal;

use super::attacker::{self, FIND};
use super::guest::Guest;
use super::{IMAGE, find_below};

crate::tests! {
    Program:
        a_sparse_log_does_not_hold_ctrl_c,
        a_sparse_log_does_not_hold_the_timeout,
        a_sparse_log_does_not_hold_the_verdict,
        a_sparse_result_does_not_hold_ctrl_c,
        a_tree_of_25000_levels_does_not_lose_the_verdict,
        a_deep_tree_as_a_result_comes_to_an_end;
    Qemu:
        a_log_of_newlines_takes_little_memory,
        a_guest_that_keeps_its_files_leaves_descriptors_to_the_host,
        a_guest_that_keeps_listing_folders_leaves_descriptors_to_the_host;
}

/// 8 TiB, which most file systems let a sparse file have.
const SPARSE: &str = "8796093022208";

/// Seconds that a build may take to end when it is told to.
const GRACE: u64 = 15;

/// What boxbuild's processes may take together at any time. A build of a few lines takes a tenth.
const MEMORY_KIB: u64 = 160 << 10;

/// Sends `signal` and returns how the build ended, which takes no longer than [`GRACE`].
#[track_caller]
pub(super) fn stop(build: Running, signal: Signal) -> ProcessOutput {
    let start = Instant::now();
    build.signal(signal);
    let output = build.limit(scaled_timeout(3 * GRACE)).finish();
    let time = start.elapsed();
    assert!(
        time < scaled_timeout(GRACE),
        "it took {time:?} to end after {signal}: {output:?}"
    );
    output
}

/// A log that is almost all hole, and a guest that says so on its console and goes on.
fn sparse_log(then: &str) -> String {
    format!(
        "echo more >>/bundle/result.log; truncate -s {SPARSE} /bundle/result.log || exit 9
         touch /bundle/sparse; {then}"
    )
}

pub(super) fn sparse_log_and_ctrl_c(guest: &Guest) {
    guest.script(&sparse_log("sleep 1000"));
    let mut build = guest.start(&[]);
    let target = guest.target();
    build.wait_until("the log", |_| find_below(&target, "sparse").is_some());
    // The host is reading now.
    std::thread::sleep(Duration::from_secs(1));
    stop(build, Signal::SIGINT).expect(130, &["interrupted"]);
    guest.assert_nothing_left();
}

fn a_sparse_log_does_not_hold_ctrl_c() {
    sparse_log_and_ctrl_c(&Guest::machine());
}

fn a_sparse_log_does_not_hold_the_timeout() {
    let guest = Guest::machine();
    guest.script(&sparse_log("sleep 1000"));
    let limit = scaled_timeout(12);
    let timeout = format!("{}s", limit.as_secs());
    let start = Instant::now();
    let output = guest.build(&["--timeout", &timeout]);
    output.expect(124, &["--timeout"]);
    let time = start.elapsed();
    assert!(time < limit + scaled_timeout(GRACE), "{time:?}");
    guest.assert_nothing_left();
}

/// The guest ends by itself, and all of its log is looked at once more, kept and published.
fn a_sparse_log_does_not_hold_the_verdict() {
    let guest = Guest::machine();
    guest.script(&sparse_log("exit 7"));
    let output = guest.build(&["--keep-failed=yes"]);
    output.expect(1, &["exit code 7"]);
    // Neither is a disk filled with it.
    let kept = find_below(&guest.path("store"), "result.log");
    let blocks = |path: &std::path::Path| {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).unwrap().blocks()
    };
    assert!(kept.is_none_or(|log| blocks(&log) < 1 << 20));
    let logs = guest.run(["logs"]);
    assert!(logs.signal.is_none(), "`logs` does not come to an end");
}

pub(super) fn sparse_result_and_ctrl_c(guest: &Guest) {
    guest.script(&format!(
        "{IMAGE}truncate -s {SPARSE} /bundle/huge.raw && echo huge >>/bundle/result.log"
    ));
    let mut build = guest.start(&["--json"]);
    let huge = guest.target().join("huge.raw");
    build.wait_until("the result", |_| huge.exists());
    // Its hash is being taken, unless it is left out.
    std::thread::sleep(Duration::from_secs(2));
    if build.has_ended() {
        let output = build.finish();
        return output.expect(0, &[]);
    }
    let output = stop(build, Signal::SIGINT);
    assert_eq!(output.code, 130, "{output:?}");
    guest.assert_nothing_left();
}

fn a_sparse_result_does_not_hold_ctrl_c() {
    sparse_result_and_ctrl_c(&Guest::machine());
}

fn a_tree_of_25000_levels_does_not_lose_the_verdict() {
    let test = "a_tree_of_25000_levels_does_not_lose_the_verdict";
    let guest = Guest::machine();
    if !attacker::bring(&guest, test) {
        return;
    }
    guest.script(&format!(
        "{FIND}$attacker deep /bundle 25000 >>/bundle/result.log 2>&1 || exit 9; exit 7"
    ));
    // Most of its time is the guest's own work.
    let output = ProcessOutput::of(&mut guest.command(&[]));
    output.expect(1, &["exit code 7"]);
    let code = std::fs::read_to_string(guest.target().join("result.code"));
    assert_eq!(code.unwrap(), "7\n");
    guest.assert_nothing_left();
}

/// Published, left out with a note, or a failure; but never a crash, a hang, or half of both.
fn a_deep_tree_as_a_result_comes_to_an_end() {
    let test = "a_deep_tree_as_a_result_comes_to_an_end";
    let guest = Guest::machine();
    if !attacker::bring(&guest, test) {
        return;
    }
    // Longer than a path may be.
    guest.script(&format!(
        "{IMAGE}{FIND}$attacker deep /bundle 3000 >>/bundle/result.log 2>&1"
    ));
    let output = guest.build(&["--json"]);
    assert!(matches!(output.code, 0 | 1 | 3), "{output:?}");
    output.expect(output.code, &[]);
    assert!(
        output.stdout.contains("power off"),
        "it never ran: {output:?}"
    );
    let code = std::fs::read_to_string(guest.target().join("result.code")).unwrap();
    let image = guest.target().join("image.raw").exists();
    let good = output.code == 0;
    assert_eq!((code.trim() == "0", image), (good, good), "{output:?}");
    guest.assert_nothing_left();
    // Nor is a later build stopped by it.
    guest.script(IMAGE);
    guest.build(&[]).expect(0, &[]);
}

/// 40 MB of lines, for which the host needs 24 bytes each and more if it keeps them.
const NEWLINES: &str = "head -c 8000000 /dev/zero | tr '\\000' '\\n' >/tmp/newlines
    for i in 1 2 3 4 5; do cat /tmp/newlines >>/bundle/result.log; done
    echo '[ ERROR   ]: 00:00:00 | the last line' >>/bundle/result.log; exit 7";

pub(super) fn flood(guest: &Guest) {
    guest.script(NEWLINES);
    let build = guest.start(&[]);
    let watch = Watch::start(build.pid());
    let output = build.finish();
    output.expect(1, &["exit code 7", "the last line"]);
    let peak = watch.peak_kib();
    assert!(
        peak < MEMORY_KIB,
        "{} MiB: {:#?}",
        peak >> 10,
        watch.processes()
    );
    guest.assert_nothing_left();
}

fn a_log_of_newlines_takes_little_memory() {
    flood(&Guest::machine());
}

/// Most descriptors that the program under test may have in [`starved`].
pub(super) const FILES: usize = 1024;

/// A build whose processes may have [`FILES`] descriptors each.
pub(super) fn starved(guest: &Guest, front: &[&str]) -> Command {
    with_descriptors(&guest.command(front), FILES)
}

/// The guest takes descriptors until it gets no more, then uses the share and ends as it likes.
fn hoard(test: &str, how: &str) {
    let guest = Guest::machine();
    if !attacker::bring(&guest, test) {
        return;
    }
    guest.script(&format!(
        "{FIND}mkdir -p /bundle/hoard/folder; touch /bundle/hoard/folder/a /bundle/hoard/folder/b
         $attacker {how} >/tmp/said; cat /tmp/said >>/bundle/result.log
         mkdir -p /result; cp /tmp/said /result/said"
    ));
    let mut command = starved(&guest, &["--verbose"]);
    let build = Running::start(&mut command).limit(scaled_timeout(120));
    let watch = Watch::start(build.pid());
    let output = build.finish();
    let files = watch.files();
    output.expect(0, &["Too many open files in system", "limit of open files"]);
    assert!(
        files < FILES * 3 / 4,
        "a process has {files} of {FILES} descriptors: {:#?}",
        watch.processes()
    );
    let peak = watch.peak_kib();
    assert!(peak < MEMORY_KIB, "{} MiB", peak >> 10);
    guest.assert_nothing_left();
}

fn a_guest_that_keeps_its_files_leaves_descriptors_to_the_host() {
    hoard(
        "a_guest_that_keeps_its_files_leaves_descriptors_to_the_host",
        "many /bundle/hoard 2000",
    );
}

fn a_guest_that_keeps_listing_folders_leaves_descriptors_to_the_host() {
    hoard(
        "a_guest_that_keeps_listing_folders_leaves_descriptors_to_the_host",
        "lists /bundle/hoard/folder 2000",
    );
}
