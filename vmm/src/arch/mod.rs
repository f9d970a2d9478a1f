//! What depends on the processor's architecture, one folder for each. Everything else of the
//! machine, its devices above all, is the same on all of them.
//!
//! [`host`] is the architecture that this program is built for. A folder has these modules, which
//! `unsupported` has, too, with nothing in them: there it is an error to make a machine.
//!
//! | module | has |
//! |---|---|
//! | `layout` | where RAM and the PCI windows lie in the guest's address space |
//! | `vm` | what a fresh machine of KVM needs: interrupt controllers |
//! | `cpu` | what a CPU is told of itself, its state at the kernel's entry, and its state in words |
//! | `boot` | tables that describe the machine; the loader of kernels and ramdisks |
//! | `platform` | devices that are not on the PCI bus: ports, serial port, clock, power |
//! | `smoke` | the guest of [`smoke`](crate::smoke) |
//!
//! So an aarch64 folder would have a device tree and the loader of `Image` files in `boot`, GICv3
//! in `vm`, PSCI and the registers at the entry in `cpu`, PL011 and PL031 in `platform`.

pub mod mark;
pub mod outputs;
#[cfg(not(target_arch = "x86_64"))]
pub mod unsupported;
#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
pub use unsupported as host;
#[cfg(target_arch = "x86_64")]
pub use x86_64 as host;
