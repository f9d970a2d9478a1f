//! The program `boxbuild`: command line in, text or JSON out.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod args;
#[cfg(test)]
mod ci_files_tests;
mod commands;
mod completion;
mod exit_code;
mod manual;
mod output;
mod roles;
mod settings;

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: a jailed process has nothing to do with command lines.
    if let Some(code) = boxbuild_jail::enter(roles::ROLES) {
        return code;
    }
    boxbuild_host::startup::reach(boxbuild_host::startup::Step::Main);
    commands::run(args::handed_over::of_process()).into()
}
