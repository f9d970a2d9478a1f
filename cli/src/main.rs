//! The program `boxbuild`: command line in, text or JSON out.

mod args;
mod commands;
mod exit_code;
mod output;

fn main() -> std::process::ExitCode {
    commands::run(args::handed_over::of_process()).into()
}
