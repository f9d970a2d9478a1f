//! The program `boxbuild`: command line in, text or JSON out.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod args;
mod commands;
mod exit_code;
mod output;

fn main() -> std::process::ExitCode {
    commands::run(std::env::args_os().skip(1).collect()).into()
}
