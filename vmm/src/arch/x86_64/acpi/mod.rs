//! ACPI tables of a machine without ACPI hardware ("hardware-reduced", ACPI 6.5, section 4.1):
//! what there is, and the three registers with which the guest ends itself.

mod dsdt;
mod ids;
mod tables;

pub use tables::write;
