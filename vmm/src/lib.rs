//! A micro virtual machine for builds, in this process: boots an unmodified distribution
//! kernel over `/dev/kvm`.
//!
//! The guest is hostile: every index, length and address that comes from it is checked where
//! it enters.

pub mod acpi;
pub mod boot;
pub mod bus;
pub mod kvm;
pub mod layout;
pub mod legacy;
pub mod machine;
pub mod memory;
pub mod vcpu;
