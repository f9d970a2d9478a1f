//! Threads of a machine under their filters: what each rule lets through, and what hostile code in a
//! thread can reach.
#![allow(
    clippy::expect_used,
    clippy::needless_pass_by_value,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

mod attempts;
mod hostile;
mod process;

use std::process::ExitCode;

use boxbuild_jail::seccomp::proof;
use boxbuild_jail::{Confinement, Landlock, Program};
use boxbuild_vmm::threads;
use libtest_mimic::{Arguments, Trial, run};

const TESTS: &[(&str, fn())] = &[
    ("each_rule_of_each_thread_lets_through_what_it_says", rules),
    (
        "hostile_code_in_a_thread_reaches_nothing_but_the_shares",
        hostile::reaches_nothing_but_the_shares,
    ),
    (
        "a_panic_under_the_filter_of_each_thread_ends_in_words",
        hostile::a_panic_ends_in_words,
    ),
];

fn main() -> ExitCode {
    if let Some(code) = boxbuild_jail::enter(&[proof::ROLE, process::ROLE]) {
        return code;
    }
    let host = Confinement::of_host();
    let lacking = if !host.seccomp {
        Some("no seccomp")
    } else if !matches!(host.landlock, Landlock::Enforced(_)) {
        Some("no Landlock")
    } else {
        None
    };
    let trials = TESTS.iter().map(|(name, test)| {
        Trial::test(*name, move || {
            match lacking {
                Some(reason) => println!("skipped: {name}: {reason}"),
                None => test(),
            }
            Ok(())
        })
    });
    run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn rules() {
    let mut failed = Vec::new();
    for (table, rules) in threads::tables() {
        for rule in rules {
            let proven = proof::prove(&Program::this(), rule);
            failed.extend(proven.err().map(|error| format!("{table}: {error}")));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
