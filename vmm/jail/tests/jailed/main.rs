//! Jailed processes of this very program.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a test"
)]

mod ends;
mod rules;
mod surroundings;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial, run};

fn main() -> ExitCode {
    let roles: Vec<_> = [ends::ROLES, rules::ROLES, surroundings::ROLES].concat();
    if let Some(code) = boxbuild_jail::enter(&roles) {
        return code;
    }
    let tests = [ends::TESTS, rules::TESTS, surroundings::TESTS].concat();
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            Trial::test(name, move || {
                test();
                Ok(())
            })
        })
        .collect();
    run(&Arguments::from_args(), trials).exit_code()
}

/// A test and its name.
pub type Test = (&'static str, fn());

/// The table of tests of a module.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}
