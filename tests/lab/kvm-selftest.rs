//! Is this /dev/kvm a true one? Exit code 0: yes.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    boxbuild_tests::smoke::smoke()?;
    println!("/dev/kvm is true: cmpxchg16b, SSE, fxrstor, int3 and a loop in 64-bit mode");
    Ok(())
}
