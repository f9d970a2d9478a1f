//! A micro virtual machine for builds, in this process: boots an unmodified distribution
//! kernel over `/dev/kvm`.
//!
//! The guest is hostile: every index, length and address that comes from it is checked where
//! it enters.

// Where no machine can be made, what machines are made of is not used.
#![cfg_attr(
    not(any(target_arch = "aarch64", target_arch = "x86_64")),
    allow(dead_code)
)]

pub mod arch;
pub mod bus;
pub mod disk;
#[cfg(any(test, feature = "fuzzing"))]
#[allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "for tests and fuzzing only"
)]
pub mod fuzz;
pub mod guest_io;
pub mod kvm;
pub mod machine;
pub mod memory;
pub mod net;
pub mod pci;
pub mod smoke;
pub mod tap;
#[cfg(any(test, feature = "fuzzing"))]
#[allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "for tests and fuzzing only"
)]
mod test_support;
pub mod threads;
pub mod vcpu;
pub mod virtio;

/// Fills `buffer` with random bytes of the host's kernel.
pub(crate) fn random(buffer: &mut [u8]) -> std::io::Result<()> {
    // Requests of up to 256 bytes never come short (getrandom(2)).
    for part in buffer.chunks_mut(256) {
        // SAFETY: the pointer and the length are of one writable buffer.
        let count = unsafe { libc::getrandom(part.as_mut_ptr().cast(), part.len(), 0) };
        if usize::try_from(count) != Ok(part.len()) {
            return Err(std::io::Error::last_os_error());
        }
    }
    Ok(())
}
