//! Builds in a real guest under a real engine: what succeeds, what fails and how, and what is
//! left behind.
//!
//! `BOXBUILD_TEST_ENGINE` says under which (qemu unless said). The kvm engine is tested on the
//! host's own /dev/kvm if that is a true one, else in the lab (docs/lab.md), as a normal user.

mod failure;
mod input;
mod interrupt;
mod success;

use std::path::Path;
use std::process::ExitCode;

use boxbuild_tests::lab::{Run, TestBed};
use libtest_mimic::{Arguments, Trial};

/// What makes sense with one engine only.
const OF_QEMU: &[&str] = &[
    "qemu_that_does_not_start",
    "a_killed_qemu",
    "what_the_host_lacks_is_named",
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test is a machine of its own; more at once than processors only makes all slow.
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let engine = boxbuild_tests::engine();
    let mut tests = [
        success::TESTS,
        failure::TESTS,
        interrupt::TESTS,
        input::TESTS,
    ]
    .concat();
    tests.retain(|(name, _)| engine == "qemu" || !OF_QEMU.contains(name));
    let mut bed = boxbuild_tests::bed();
    if let (Ok((boxbuild, store)), "kvm") = (&bed, engine.as_str()) {
        let found = TestBed::find();
        println!("test bed of engine kvm: {found}");
        match found {
            TestBed::Kvm => {}
            TestBed::Lab { .. } => return in_lab(&found, boxbuild, store),
            TestBed::None { reason } => bed = Err(reason),
        }
    }
    if let Err(reason) = &bed {
        println!(
            "skipped: all {} end-to-end tests of engine {engine}: {reason}",
            tests.len()
        );
    }
    let trials = tests
        .into_iter()
        .map(|(name, test): (&str, fn())| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
            .with_ignored_flag(bed.is_err())
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Runs this program in the lab, as a normal user in group kvm.
fn in_lab(lab: &TestBed, boxbuild: &Path, store: &Path) -> ExitCode {
    let mut run = Run::new(std::env::current_exe().expect("this program has a path"))
        .file(boxbuild)
        .file(&store.join("small"))
        // Bookworm's tmpfs has no user attributes, which shares keep ownership in.
        .lab_options(["--user", "--kernel", "trixie"])
        .lab_options(["--memory", "6144", "--cpus", "1", "--timeout", "1500"]);
    for name in ["BOXBUILD", "BOXBUILD_TEST_STORE", "BOXBUILD_TEST_ENGINE"] {
        let value = std::env::var(name).expect("checked before");
        run = run.lab_options(["--env".to_owned(), format!("{name}={value}")]);
    }
    for argument in std::env::args_os().skip(1) {
        run = run.arg(argument);
    }
    let mut command = lab.command(&run).expect("the lab runs commands");
    match command.status() {
        Ok(status) => status.code().map_or(ExitCode::FAILURE, |code| {
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }),
        Err(error) => {
            eprintln!("cannot run the lab: {error}");
            ExitCode::FAILURE
        }
    }
}
