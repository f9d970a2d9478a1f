//! CPUs: what they are told of themselves, their state at the kernel's entry, their state in
//! words.

mod cpuid;
mod model;
mod policy;
mod registers;
mod state;
mod xsave;

pub(crate) use model::{CpuModel, MAX_CPUS, finish};
pub(crate) use registers::enter;
pub(crate) use state::{describe, position, reason};
