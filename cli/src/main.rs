//! The program `boxbuild`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(boxbuild::app::run(std::env::args_os().skip(1)))
}
