//! One virtual machine of the kernel's KVM: its memory slots, interrupts and notifications.

mod error;
mod traits;
mod vm;

pub use error::KvmError;
#[cfg(target_arch = "x86_64")]
pub(crate) use error::failed;
pub use traits::{IoEvents, MsiSink};
pub use vm::Vm;
