//! CPUs: their features, their state at the kernel's entry, their state in words.

mod entry;
mod model;
mod registers;
mod state;

pub(crate) use entry::enter;
pub(crate) use model::{CpuModel, MAX_CPUS, finish};
pub(crate) use state::{describe, position, reason};
