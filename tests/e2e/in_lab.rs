//! Running these tests in the lab, as a normal user in group kvm.
//!
//! An emulated machine of several CPUs dies now and then, and so do guests in it (docs/lab.md,
//! "Traps"). So there are several labs of one CPU, side by side, which share the tests; and what
//! did not pass runs again in a new lab, until all has passed or a test has failed, or was running
//! as its lab died, three times. The run's summary names what was repeated.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use boxbuild_tests::lab::{Run, TestBed};
use boxbuild_tests::test_env;
use boxbuild_tests::{cross, env};
use libtest_mimic::Arguments;

use crate::isolation::attacker;
use crate::registry::{Test, Venue};
use crate::{ONLY, is_asked_for};

/// With `all`, or where tests are named, the lab leaves nothing out.
const HOW_MANY: &str = "BOXBUILD_TEST_LAB";

/// What fails in so many labs does not fail by accident.
const ATTEMPTS: u32 = 3;

/// More tests than this do not fail by accident in one lab and those that follow it.
const ACCIDENTS: usize = 6;

/// Exit code of tests/lab/lab if the lab itself failed.
const LAB_DIED: i32 = 125;

/// Tests that run at once, unless the command line says otherwise.
pub(crate) const AT_ONCE: usize = 2;

/// How a run in one lab went.
struct Outcome {
    code: i32,
    passed: Vec<String>,
    failed: Vec<String>,
}

/// Labs that run side by side at most.
const LABS: usize = 3;

/// Memory of a lab in MiB, all of which it may come to touch.
const MEMORY: usize = 4096;

/// Runs those of `tests` that the command line asks for in the lab.
pub(crate) fn run(lab: &TestBed, tests: &[Test], arguments: &Arguments) -> ExitCode {
    let all = std::env::var(HOW_MANY).is_ok_and(|which| which == "all")
        || std::env::var_os(ONLY).is_some()
        || arguments.filter.is_some();
    let (names, left_out): (Vec<&Test>, Vec<&Test>) = tests
        .iter()
        .filter(|test| is_asked_for(arguments, test))
        .partition(|test| all || test.venue != Venue::Program);
    if !left_out.is_empty() {
        println!(
            "skipped: {} end-to-end tests under the kvm engine, in the lab: they are of the program and not \
             of the engine, and run under qemu ({HOW_MANY}=all and make test-full run them here, too)",
            left_out.len()
        );
    }
    if names.is_empty() {
        return ExitCode::SUCCESS;
    }
    let names: Vec<&str> = names.into_iter().map(|test| test.name).collect();
    let store = match env::small_boxes() {
        Ok(store) => store,
        Err(reason) => {
            eprintln!("the small boxes cannot be made: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let programs = match Programs::get() {
        Ok(programs) => programs,
        Err(reason) => {
            eprintln!("what runs in the lab cannot be built: {reason}");
            return ExitCode::FAILURE;
        }
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let labs = [cpus, LABS, available_memory() / MEMORY, names.len()];
    let labs = labs.into_iter().min().unwrap_or(1).max(1);
    let programs = &programs;
    let share = |first: usize| names.iter().skip(first).step_by(labs).copied().collect();
    let passed = std::thread::scope(|scope| {
        let shares: Vec<_> = (0..labs)
            .map(share)
            .map(|names| scope.spawn(move || run_share(lab, programs, store, names)))
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

/// Returns the host's available memory in MiB.
pub(crate) fn available_memory() -> usize {
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.map_or(usize::MAX, |kib| kib / 1024)
}

/// Runs the tests called `left` in one lab and, where some fail, in further ones. Returns whether all passed.
fn run_share(lab: &TestBed, programs: &Programs, store: &Path, mut left: Vec<&str>) -> bool {
    let mut failures: HashMap<&str, u32> = HashMap::new();
    let mut accidents = 0;
    loop {
        let outcome = once(lab, programs, store, &left);
        if outcome.code == 0 {
            break;
        }
        left.retain(|&name| !outcome.passed.iter().any(|passed| passed == name));
        accidents += outcome.failed.len();
        // Tests begin in the order of their list: the first ones of those without a result were
        // running.
        let silent = |name: &&&str| !outcome.failed.iter().any(|failed| failed == **name);
        let in_flight = if outcome.code == LAB_DIED { AT_ONCE } else { 0 };
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

/// What runs in the lab.
struct Programs {
    /// Those tests.
    tests: PathBuf,
    boxbuild: PathBuf,
    /// Their architecture, where it is not this host's.
    foreign: Option<String>,
}

impl Programs {
    fn get() -> Result<Programs, String> {
        let Some(arch) = env::foreign_arch() else {
            let tests = std::env::current_exe().map_err(|error| error.to_string())?;
            let boxbuild = test_env()?.boxbuild.clone();
            return Ok(Programs {
                tests,
                boxbuild,
                foreign: None,
            });
        };
        let profile = if cfg!(debug_assertions) {
            "dev"
        } else {
            "release"
        };
        // Cargo names other programs as well, which tests could run.
        let one = |words: &str, name: &str| {
            let words: Vec<&str> = words.split(' ').chain(["--profile", profile]).collect();
            let is_it = |program: &PathBuf| {
                let file = program.file_name().unwrap_or_default();
                file.to_string_lossy().split('-').next() == Some(name)
            };
            let program = cross::cargo(&arch, &words)?.into_iter().find(is_it);
            program.ok_or_else(|| format!("cargo names no program {name}"))
        };
        Ok(Programs {
            tests: one("test --no-run --package boxbuild-tests --test e2e", "e2e")?,
            boxbuild: one("build --package boxbuild", "boxbuild")?,
            foreign: Some(arch),
        })
    }
}

/// Runs the tests called `names` in a new lab.
fn once(lab: &TestBed, programs: &Programs, store: &Path, names: &[&str]) -> Outcome {
    let boxbuild = &programs.boxbuild;
    let mut run = Run::new(&programs.tests)
        .file(boxbuild)
        // Bookworm's tmpfs has no user attributes, which shares keep ownership in.
        .lab_options(["--user", "--kernel", "trixie"])
        .lab_options(["--memory", &MEMORY.to_string(), "--timeout", "3000"])
        .lab_options(["--env".to_owned(), format!("{ONLY}={}", names.join(","))]);
    if let Some(arch) = &programs.foreign {
        run = run.lab_options(["--arch", arch]);
    }
    for name in env::boxes(store) {
        run = run.file(&store.join(name));
    }
    for (name, value) in [
        (env::BOXBUILD, boxbuild.as_path()),
        (env::STORE, store),
        (env::ENGINE, Path::new("kvm")),
    ] {
        run = run.lab_options(["--env".to_owned(), format!("{name}={}", value.display())]);
    }
    // Without it, the tests that need it say so.
    if let Ok(program) = attacker::program() {
        let variable = format!("{}={}", env::ATTACKER, program.display());
        run = run
            .file(program)
            .lab_options(["--env".to_owned(), variable]);
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
    Outcome {
        code: code.unwrap_or(LAB_DIED),
        passed,
        failed,
    }
}
