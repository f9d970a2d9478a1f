//! Virtual CPUs: their set-up and the threads that run them.
//!
//! The boot CPU starts in the kernel; the others wait until the kernel starts them, which KVM does
//! without us.

mod boot_cpu;
mod create;
mod error;
mod first_exit;
mod kick;
mod run;
mod stop;

pub use boot_cpu::{BootCpu, RunningVcpus};
pub use create::{Vcpus, create};
pub use error::VcpuError;
pub use first_exit::FirstExit;
pub use stop::{Ended, Stop};
