//! The guest's side of a share, without a guest: a vhost-user frontend with guest memory and
//! queues, and FUSE requests.
//!
//! For tests and measurements. It drives any virtio-fs server that speaks vhost-user, lays its
//! requests out in memory as Linux' driver does (indirect descriptor tables, one descriptor for
//! each page of data), and can put anything else into the queues as well. It panics where a test
//! would fail anyway: if the server violates the protocol, or does not answer.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "the other side of a test: a failed expectation is a failed test"
)]

mod client;
mod files;
mod operations;
mod ring;

pub use client::{Client, Connection, Reply, Request};
pub use files::ListedEntry;
pub use operations::{Answer, set_times};
pub use ring::Ring;
