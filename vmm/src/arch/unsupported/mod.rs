//! An architecture that machines cannot be made for yet. The devices work, for their tests.

pub mod boot;
pub mod cpu;
pub mod layout;
pub mod platform;
pub mod smoke;
pub mod vm;
