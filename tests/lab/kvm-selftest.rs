//! Is this /dev/kvm a true one? Exit code 0: yes.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    boxbuild_tests::smoke::smoke()?;
    println!("/dev/kvm is true: cmpxchg16b, SSE, fxrstor, int3 and a loop in 64-bit mode");
    Ok(())
}
