//! Builds in a container, with podman: no machine, but the box's root tree beside the host's
//! kernel. Faster than an emulated machine, and far less isolated; never chosen on its own.
//!
//! A container reports the same [`Event`](crate::Event)s as a machine, so that a build in it is
//! supervised and judged by the same code.

mod argv;
mod cache;
mod caller;
mod container;
mod error;
mod folder;
mod host;
mod image;
mod kernel;
mod loops;
mod mask;
mod network;
mod output;
mod process;
mod program;
mod reaper;
mod runner;
mod shell;
mod throwaway;

pub use container::{Container, EntryKind, Guest, Mask, MaskedEntry, Mode, Mount, check_place};
pub use error::ContainerError;
pub use host::examine;
pub use image::{Image, ImageSource, PullPolicy};
pub use kernel::{KernelFeature, KernelNeeds};
pub use network::{ContainerNetwork, check_private_network};
pub use runner::Podman;
pub use throwaway::{RootRun, RootTree};
