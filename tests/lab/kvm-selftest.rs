//! Is this /dev/kvm a true one? Exit code 0: yes.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

use boxbuild_tests::smoke::{SHOWN, smoke};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    smoke()?;
    println!("/dev/kvm is true: {SHOWN}");
    Ok(())
}
