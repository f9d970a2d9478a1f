//! Runs one virtual machine or container, and tells what happens to it.
//!
//! A [`Machine`] is a plain value. An [`Engine`] starts it and hands back a [`Running`] handle;
//! what happens arrives as [`Event`]s. Nothing here knows of boxes or KIWI.

pub mod boot_cache;
mod engine;
mod error;
mod event;
mod handle;
pub mod kvm;
mod machine;
pub mod podman;
pub mod qemu;
mod selection;
mod usage;

pub use engine::{Engine, Processor};
pub use error::{StartError, Unusable};
pub use event::{Ended, Event};
pub use handle::{Console, Moved, Running, Usage, size_line};
pub use machine::{Forward, Machine, Network, RootDisk, Share};
pub use selection::{EngineChoice, Selected, all, select};
