//! The guest's side of a share, without a guest: a vhost-user frontend with guest memory, a
//! driver for split virtqueues, and FUSE requests.
//!
//! For tests and measurements. It drives any virtio-fs server that speaks vhost-user, lays its
//! requests out in memory as Linux' driver does (indirect descriptor tables, one descriptor for
//! each page of data), and can as well put any nonsense into the ring. It panics where a test
//! would fail anyway: when the server breaks the rules of the protocol, and when it does not
//! answer.

mod client;
mod files;
mod operations;
mod ring;

pub use client::{Client, Connection, Reply, Request};
pub use files::Found;
pub use operations::{Answer, set_times};
pub use ring::{Descriptor, Ring};
