//! Runs one virtual machine or container, and tells what happens to it.
//!
//! A [`Machine`] is a plain value. An [`Engine`] starts it and hands back a [`Running`] handle;
//! what happens arrives as [`Event`]s. Nothing here knows of boxes or KIWI.

pub mod boot_cache;
mod channel;
mod engine;
mod error;
mod event;
mod handle;
mod job;
pub mod kvm;
mod machine;
mod network;
pub mod podman;
pub mod qemu;
mod selection;
mod unusable;
mod usage;
mod wire_share;

pub use boxbuild_virtiofs::{DirectoryId, Hidden, HiddenNames, MountTag, Share};
pub use boxbuild_vmm::net::{Allowed, Handover, Policy, Reach};
pub use channel::{EventReceiver, EventSender, events};
pub use engine::{Engine, Processor};
pub use error::StartError;
pub use event::{Ended, Event};
pub use handle::{Console, Moved, Running, StartTimes, Usage, size_line};
pub use job::{ContainerJob, Job, MachineJob};
pub use machine::{CpuLevel, Forward, Machine, Network, RootDisk};
pub use network::describe_networks;
pub use selection::{EngineChoice, Selected, all, select};
pub use unusable::Unusable;
