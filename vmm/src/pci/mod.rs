//! A PCI bus for emulated devices: configuration space, memory windows, MSI-X.
//!
//! One bus, devices with one function each, memory BARs, message-signalled interrupts only:
//! what a virtual machine needs, without legacy interrupts and bridges. Knows nothing of KVM:
//! interrupts leave through [`MsiSink`](crate::kvm::MsiSink).

pub mod config_shadow;
mod config_space;
mod function;
mod host_bridge;
pub mod msix;
mod root;

pub use config_shadow::ConfigShadow;
pub use config_space::{BarRegister, Change, ConfigSpace, Identity};
pub use function::{Function, SLOTS};
pub use host_bridge::HostBridge;
pub use root::{ConfigPorts, ConfigWindow, MemoryWindow, PciError, PciRoot};
