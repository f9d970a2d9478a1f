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
