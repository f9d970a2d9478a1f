//! What depends on the processor's architecture, one folder for each. Everything else of the
//! machine, its devices above all, is the same on all of them.
//!
//! [`host`] is the architecture that this program is built for. A folder has these modules, which
//! `unsupported` has, too, with nothing in them: there it is an error to make a machine.
//!
//! | module | has |
//! |---|---|
//! | `layout` | where RAM and the PCI windows lie in the guest's address space |
//! | `vm` | what a fresh machine of KVM needs |
//! | `cpu` | what a CPU is told of itself, its state at the kernel's entry, and its state in words |
//! | `boot` | tables that describe the machine; the loader of kernels and ramdisks |
//! | `platform` | devices that are not on the PCI bus: serial port, clock, power; where messages go |
//! | `coherence` | what it takes that the guest sees memory as this program wrote it |
//! | `smoke` | the guest of [`smoke`](crate::smoke) |
//!
//! What some of them share lies beside the folders.

#[cfg(target_arch = "aarch64")]
pub mod aarch64;
pub mod boot;
pub mod debug_port;
pub mod mark;
pub mod outputs;
pub mod serial;
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
pub mod unsupported;
mod width;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(target_arch = "aarch64")]
pub use aarch64 as host;
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
pub use unsupported as host;
#[cfg(target_arch = "x86_64")]
pub use x86_64 as host;
