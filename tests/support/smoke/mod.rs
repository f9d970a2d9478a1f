//! A few instructions that every kernel needs, run on /dev/kvm: a /dev/kvm that cannot is no test bed.
//! Without our own machine, so that it says something about the bed and nothing about us.

#[cfg(target_arch = "aarch64")]
mod aarch64;
mod memory;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use memory::Memory;

#[cfg(target_arch = "aarch64")]
pub use aarch64::{SHOWN, smoke};
#[cfg(target_arch = "x86_64")]
pub use x86_64::{SHOWN, smoke};
