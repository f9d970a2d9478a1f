//! A FUSE server over one host directory, for virtual machines.
//!
//! The server has one core, [`server::Server`], which turns a FUSE request in a virtio
//! descriptor chain into a reply, and doors that feed it: `vhost_user` serves a VMM in
//! another process (QEMU); an in-process VMM calls the core from its own queue worker.
//!
//! What the guest can reach is closed twice: every name from the guest is checked before a
//! file system sees it ([`fuse::name::Name`]), and the serving threads are confined to the
//! shared directory by the kernel ([`confine`]).

pub mod config;
pub mod confine;
pub mod descriptor;
pub mod fuse;
mod pace;
pub mod passthrough;
pub mod server;
mod traffic;
pub mod vhost_user;

pub use config::ShareConfig;
pub use confine::{Confinement, confine_thread};
pub use passthrough::{PassthroughFs, ShareError};
pub use server::{Server, ServerError};
pub use traffic::Traffic;
