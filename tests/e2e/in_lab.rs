//! Running these tests in the lab, as a normal user in group kvm.
//!
//! An emulated machine of several CPUs dies now and then, and so do guests in it (docs/lab.md,
//! "Traps"). So there are several labs of one CPU, side by side, which share the tests; and what
//! did not pass runs again in a new lab, until all has passed or a test has failed, or was running
//! as its lab died, three times. The run's summary names what was repeated.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use boxbuild_tests::lab::{Run, TestBed};

/// Names of the tests to run, separated by commas, where not all are.
pub(crate) const ONLY: &str = "BOXBUILD_TEST_ONLY";

/// With `all`, or where tests are named by [`ONLY`], the lab leaves nothing out.
const HOW_MANY: &str = "BOXBUILD_TEST_LAB";

/// What says little about an engine: what the program does before a machine runs, after it ended, or
/// with any machine. It runs under the qemu engine, and under kvm on real hardware and in `make
/// test-full`: the lab is slow.
const NOT_OF_THE_ENGINE: &[&str] = &[
    "a_batch_builds_goes_on_and_sums_up",
    "a_batch_is_checked_before_anything_starts",
    "a_batch_that_shall_stop_at_the_first_failure",
    "a_box_booted_by_its_own_init_gets_the_key",
    "a_box_without_sshd_says_so",
    "a_closed_pipe_is_no_error",
    "a_forged_verdict_does_not_count",
    "a_full_disk_in_the_guest",
    "a_killed_boxbuild_keeps_nothing",
    "a_ramdisk_without_a_driver_falls_back",
    "a_result_that_cannot_be_bundled",
    "a_target_in_use_is_refused",
    "an_earlier_result_is_replaced",
    "b19_boxes_of_every_architecture_are_reached",
    "b22_a_box_can_go_while_builds_run",
    "b26_a_port_in_use_is_said_before_anything_is_changed",
    "b26_builds_at_once_share_no_port",
    "boxes_are_listed_shown_and_removed",
    "ctrl_c_ends_a_batch_in_order",
    "ctrl_c_twice",
    "events_as_json",
    "files_of_the_host_are_seen",
    "kill_9_of_a_batch_leaves_nothing",
    "paths_of_any_bytes",
    "the_console_needs_a_terminal",
    "the_plan_as_json",
    "the_terminal_is_restored",
    "the_time_is_over",
    "timings_of_a_boot_by_the_boxs_init",
    "what_is_kept_is_bounded_and_held",
    "what_the_boxs_init_cannot_be_told_is_said",
    "wrong_folders_are_refused",
    "wrong_words_are_refused",
];

/// What fails in so many labs does not fail by accident.
const ATTEMPTS: u32 = 3;

/// More tests than this do not fail by accident in one lab and those that follow it.
const ACCIDENTS: usize = 6;

/// What tests/lab/lab exits with if the lab itself failed.
const LAB_DIED: i32 = 125;

/// Tests that run at once, unless the command line says otherwise.
pub(crate) const AT_ONCE: usize = 2;

/// How a run went.
struct Ran {
    code: i32,
    passed: Vec<String>,
    failed: Vec<String>,
}

/// Labs that run side by side at most.
const LABS: usize = 3;

/// Memory of a lab in MiB, all of which it may come to touch.
const MEMORY: usize = 4096;

/// Runs the tests called `names` in the lab.
pub(crate) fn run(lab: &TestBed, boxbuild: &Path, store: &Path, names: &[&str]) -> ExitCode {
    let all = std::env::var(HOW_MANY).is_ok_and(|which| which == "all")
        || std::env::var_os(ONLY).is_some();
    let (left_out, names): (Vec<&str>, Vec<&str>) = names
        .iter()
        .copied()
        .partition(|name| !all && NOT_OF_THE_ENGINE.contains(name));
    if !left_out.is_empty() {
        println!(
            "skipped: {} end-to-end tests under the kvm engine, in the lab: they are of the program and not \
             of the engine, and run under qemu ({HOW_MANY}=all and make test-full run them here, too)",
            left_out.len()
        );
    }
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let labs = [cpus, LABS, available_memory() / MEMORY, names.len()];
    let labs = labs.into_iter().min().unwrap_or(1).max(1);
    let share = |first: usize| names.iter().skip(first).step_by(labs).copied().collect();
    let passed = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..labs)
            .map(share)
            .map(|names| scope.spawn(move || run_share(lab, boxbuild, store, names)))
            .collect();
        let mut ended = shares
            .into_iter()
            .map(|share| share.join().unwrap_or(false));
        ended.all(|passed| passed)
    });
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// MiB that the host has left, as it says.
fn available_memory() -> usize {
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.map_or(usize::MAX, |kib| kib / 1024)
}

/// Whether those called `left` passed in one lab and those that followed it.
fn run_share(lab: &TestBed, boxbuild: &Path, store: &Path, mut left: Vec<&str>) -> bool {
    let mut failures: HashMap<&str, u32> = HashMap::new();
    let mut accidents = 0;
    loop {
        let ran = once(lab, boxbuild, store, &left);
        if ran.code == 0 {
            break;
        }
        left.retain(|&name| !ran.passed.iter().any(|passed| passed == name));
        accidents += ran.failed.len();
        // Tests begin in the order of their list: the first ones of those that said nothing were
        // running.
        let silent = |name: &&&str| !ran.failed.iter().any(|failed| failed == **name);
        let in_flight = if ran.code == LAB_DIED { AT_ONCE } else { 0 };
        let broken: Vec<&str> = (left.iter().filter(|name| !silent(name)))
            .chain(left.iter().filter(silent).take(in_flight))
            .copied()
            .collect();
        for name in &broken {
            *failures.entry(name).or_default() += 1;
        }
        let hopeless = failures.values().any(|&times| times >= ATTEMPTS);
        if broken.is_empty() || hopeless || accidents > ACCIDENTS {
            return false;
        }
        println!("once more, in a new lab: {}", broken.join(" "));
    }
    let mut repeated: Vec<_> = failures.into_iter().collect();
    repeated.sort_unstable();
    for (name, times) in repeated {
        println!(
            "repeated: {name}: failed in the lab {times} of {} times",
            times + 1
        );
    }
    true
}

fn once(lab: &TestBed, boxbuild: &Path, store: &Path, names: &[&str]) -> Ran {
    let mut run = Run::new(std::env::current_exe().expect("this program has a path"))
        .file(boxbuild)
        // Bookworm's tmpfs has no user attributes, which shares keep ownership in.
        .lab_options(["--user", "--kernel", "trixie"])
        .lab_options(["--memory", &MEMORY.to_string(), "--timeout", "3000"])
        .lab_options(["--env".to_owned(), format!("{ONLY}={}", names.join(","))]);
    for name in boxbuild_tests::boxes(store) {
        run = run.file(&store.join(name));
    }
    for name in ["BOXBUILD", "BOXBUILD_TEST_STORE", "BOXBUILD_TEST_ENGINE"] {
        let value = std::env::var(name).expect("checked before");
        run = run.lab_options(["--env".to_owned(), format!("{name}={value}")]);
    }
    for argument in std::env::args_os().skip(1) {
        run = run.arg(argument);
    }
    let mut command = lab.command(&run).expect("the lab runs commands");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the lab can be run");
    let (mut passed, mut failed) = (Vec::new(), Vec::new());
    let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
    for line in stdout.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        // "test NAME   ... ok"
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["test", name, "...", "ok"] => passed.push(name.to_owned()),
            ["test", name, "...", "FAILED"] => failed.push(name.to_owned()),
            _ => {}
        }
    }
    let code = child.wait().ok().and_then(|status| status.code());
    Ran {
        code: code.unwrap_or(LAB_DIED),
        passed,
        failed,
    }
}
