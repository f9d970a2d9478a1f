//! The vhost-user door: serves a share to a VMM in another process.
//!
//! Each server has one connection and two threads, both confined to the share: one for the
//! protocol, one for the queues. They are threads of this process ([`ShareServer`]), or a process
//! of their own that calls [`serve`].

mod backend;
mod error;
mod fault;
mod filters;
mod poll_window;
mod server;
mod socket;
mod status;
mod worker;

pub use error::StartError;
pub use filters::Filters;
#[cfg(feature = "unchecked-names")]
#[doc(hidden)]
pub use server::Locks;
pub use server::ShareServer;
pub use socket::connected_listener;
pub use status::ServerStatus;
pub use worker::{ServerInput, serve};
