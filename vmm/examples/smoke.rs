//! Says whether this host's /dev/kvm can run a kernel. Exit code 0: yes.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let start = Instant::now();
    match boxbuild_vmm::smoke::run() {
        Ok(()) => {
            println!("usable ({:?})", start.elapsed());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{error} ({:?})", start.elapsed());
            let mut source = error.source();
            while let Some(error) = source {
                println!("  because: {error}");
                source = error.source();
            }
            ExitCode::FAILURE
        }
    }
}
