//! Children that read what is not trusted, and their ends. They are this very program.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test"
)]

mod ends;
mod works;

use std::fs::File;
use std::io::{Seek, Write};
use std::process::ExitCode;

use boxbuild_host::interrupt::Interrupt;
use boxbuild_jail::Role;
use boxbuild_jail::seccomp::proof;
use boxbuild_parsers::{Parser, ROLE};
use libtest_mimic::{Arguments, Trial, run};

fn main() -> ExitCode {
    let role = Role {
        run: ends::misbehave_or_work,
        ..ROLE
    };
    if let Some(code) = boxbuild_jail::enter(&[role, proof::ROLE]) {
        return code;
    }
    let tests = [works::TESTS, ends::TESTS].concat();
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
type Test = (&'static str, fn());

/// The table of tests of a module.
macro_rules! tests {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name as fn())),*] };
}
use tests;

fn parser() -> Parser {
    Parser::new(Interrupt::default())
}

/// A file of these bytes.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}
