//! x86-64: a PC as far as a kernel still needs one.

pub mod acpi;
pub mod boot;
pub(crate) mod coherence;
pub mod cpu;
pub mod layout;
pub mod legacy;
pub mod platform;
pub mod smoke;
pub mod vm;
