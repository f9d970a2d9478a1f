//! Running these tests in the lab, as a normal user in group kvm.
//!
//! Guests die in the lab now and then: about once in fifty
//! boots its own kernel panics, or a guest crashes or hangs
//! (docs/lab.md, "Traps"). So what fails there, if it is little, runs again in a new lab, twice at
//! most, and the run's summary names it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{ExitCode, Stdio};

use boxbuild_tests::lab::{Run, TestBed};

/// Names of the tests to run, separated by commas, where not all are.
pub(crate) const ONLY: &str = "BOXBUILD_TEST_ONLY";

/// More tests than this do not fail by accident in one lab, unless the lab died.
const ACCIDENTS: usize = 3;

/// What fails in more labs than this does not fail by accident.
const REPEATS: u32 = 2;

/// What tests/lab/lab exits with if the lab itself failed.
const LAB_DIED: i32 = 125;

/// How a run went.
struct Ran {
    code: i32,
    passed: Vec<String>,
}

/// So many labs may die under one run: the emulator's deaths say nothing about these tests.
const DEATHS: usize = 3;

/// Runs the tests called `names` in the lab.
pub(crate) fn run(lab: &TestBed, boxbuild: &Path, store: &Path, names: &[&str]) -> ExitCode {
    let mut left = names.to_vec();
    let mut repeated = Vec::new();
    let (mut deaths, mut failures) = (0, 0);
    loop {
        let ran = once(lab, boxbuild, store, &left);
        if ran.code == 0 {
            break;
        }
        left.retain(|&name| !ran.passed.iter().any(|passed| passed == name));
        let by_accident = if ran.code == LAB_DIED {
            deaths += 1;
            deaths <= DEATHS
        } else {
            failures += 1;
            failures <= REPEATS && left.len() <= ACCIDENTS
        };
        if left.is_empty() || !by_accident {
            return ExitCode::FAILURE;
        }
        println!("once more, in a new lab: {}", left.join(" "));
        if repeated.is_empty() {
            repeated.clone_from(&left);
        }
    }
    for name in repeated {
        println!("repeated: {name}: failed in one lab and passed in the next");
    }
    ExitCode::SUCCESS
}

fn once(lab: &TestBed, boxbuild: &Path, store: &Path, names: &[&str]) -> Ran {
    let mut run = Run::new(std::env::current_exe().expect("this program has a path"))
        .file(boxbuild)
        // Bookworm's tmpfs has no user attributes, which shares keep ownership in.
        .lab_options(["--user", "--kernel", "trixie"])
        .lab_options(["--memory", "6144", "--timeout", "1500"])
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
    let mut passed = Vec::new();
    let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
    for line in stdout.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        // "test NAME   ... ok"
        let mut words = line.split_whitespace();
        if let (Some("test"), Some(name), Some("..."), Some("ok"), None) = (
            words.next(),
            words.next(),
            words.next(),
            words.next(),
            words.next(),
        ) {
            passed.push(name.to_owned());
        }
    }
    let code = child.wait().ok().and_then(|status| status.code());
    Ran {
        code: code.unwrap_or(LAB_DIED),
        passed,
    }
}
