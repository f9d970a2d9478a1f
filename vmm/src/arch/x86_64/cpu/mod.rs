//! CPUs: what they are told of themselves, their state at the kernel's entry, their state in
//! words.

mod cpuid;
mod model;
mod registers;
mod state;

pub(crate) use model::{CpuModel, MAX_CPUS};
pub(crate) use registers::enter;
pub(crate) use state::{describe, position};
