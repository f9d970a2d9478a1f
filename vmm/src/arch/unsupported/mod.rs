//! An architecture that machines cannot be made for yet. The devices work, for their tests.

// The other architectures say what everything is.
#![allow(missing_docs)]

pub mod boot;
pub mod coherence;
pub mod cpu;
pub mod layout;
pub mod platform;
pub mod smoke;
pub mod vm;
