//! 64-bit Arm: a board that a device tree describes, with nothing of a PC.

pub mod boot;
pub(crate) mod coherence;
pub mod cpu;
mod device_tree;
mod gic;
pub mod layout;
mod messages;
pub mod platform;
mod rtc;
pub mod smoke;
pub mod vm;
