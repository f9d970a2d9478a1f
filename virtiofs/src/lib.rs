//! A FUSE server over one host directory, for virtual machines.
//!
//! The server has one core, [`server::Server`], which turns a FUSE request in a virtio
//! descriptor chain into a reply, and doors that feed it: `vhost_user` serves a VMM in
//! another process (QEMU); an in-process VMM calls the core from its own queue worker.
//!
//! Two independent locks keep a guest inside of the share: every name from the guest is checked
//! before a file system sees it ([`fuse::name::Name`]), and the kernel confines the serving
//! threads to the shared directory ([`confine`]).

pub mod confine;
pub mod descriptor;
pub mod fuse;
pub mod hidden;
pub mod passthrough;
pub mod server;
pub mod share;
pub mod system_calls;
mod traffic;
pub mod vhost_user;

pub use confine::{Confinement, confine_thread};
pub use hidden::{DirectoryId, Hidden, HiddenNames};
pub use passthrough::{PassthroughFs, ShareError};
pub use server::{Server, ServerError};
pub use share::{MountTag, MountTagError, Share};
pub use traffic::Traffic;
