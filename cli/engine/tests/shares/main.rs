//! The jailed process that serves the shares of a machine under QEMU; here, of this program.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

mod attacks;
mod process;
mod support;

use std::process::ExitCode;

use boxbuild_engine::qemu::shares::ROLE;
use libtest_mimic::{Arguments, Trial, run};

fn main() -> ExitCode {
    if let Some(code) = boxbuild_jail::enter(&[ROLE, attacks::ROLE]) {
        return code;
    }
    let trials = [process::TESTS, attacks::TESTS]
        .concat()
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
type Test = (&'static str, fn());

/// The table of tests of a module.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}
