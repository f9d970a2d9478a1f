//! Builds in a real guest under a real engine: what succeeds, what fails and how, and what is
//! left behind.
//!
//! `BOXBUILD_TEST_ENGINE` says under which (qemu unless said). The kvm engine is tested on the
//! host's own /dev/kvm if that is a true one, else in the lab (docs/lab.md), as a normal user.

mod batch;
mod boot;
mod failure;
mod foreign;
mod imported;
mod in_lab;
mod in_place;
mod input;
mod interrupt;
mod json;
mod kept;
mod several;
mod ssh;
mod success;
mod timings;

use std::process::ExitCode;

use boxbuild_tests::lab::TestBed;
use libtest_mimic::{Arguments, Trial};

/// What makes sense with one engine only.
const OF_QEMU: &[&str] = &[
    "qemu_that_does_not_start",
    "a_killed_qemu",
    "what_the_host_lacks_is_named",
    "a_guest_of_another_architecture",
    // They need e2fsprogs, which the lab has not.
    "an_imported_disk_builds",
    "an_imported_root_tree_builds",
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Each test is a machine of its own; more at once than processors only makes all slow.
    arguments.test_threads = arguments.test_threads.or(Some(in_lab::AT_ONCE));
    let engine = boxbuild_tests::engine();
    let mut tests = [
        success::TESTS,
        boot::TESTS,
        failure::TESTS,
        interrupt::TESTS,
        input::TESTS,
        in_place::TESTS,
        several::TESTS,
        foreign::TESTS,
        imported::TESTS,
        batch::TESTS,
        json::TESTS,
        kept::TESTS,
        ssh::TESTS,
        timings::TESTS,
    ]
    .concat();
    tests.retain(|(name, _)| engine == "qemu" || !OF_QEMU.contains(name));
    if let Ok(only) = std::env::var(in_lab::ONLY) {
        tests.retain(|(name, _)| only.split(',').any(|wanted| wanted == *name));
    }
    let mut bed = boxbuild_tests::bed();
    if let (Ok((boxbuild, store)), "kvm") = (&bed, engine.as_str()) {
        let found = TestBed::find();
        println!("test bed of engine kvm: {found}");
        match found {
            TestBed::Kvm => {}
            TestBed::Lab { .. } => {
                let names: Vec<_> = tests.iter().map(|(name, _)| *name).collect();
                return in_lab::run(&found, boxbuild, store, &names);
            }
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
