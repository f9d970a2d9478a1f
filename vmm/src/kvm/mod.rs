//! One virtual machine of the kernel's KVM: its memory slots, interrupts and notifications.

mod error;
mod interrupts;
mod traits;
mod vm;

pub use error::KvmError;
pub(crate) use error::failed;
pub use interrupts::InterruptController;
pub use traits::{IoEvents, MsiSink};
pub use vm::Vm;
