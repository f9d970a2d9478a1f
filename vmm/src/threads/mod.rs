//! The threads of a machine: where they are started, and which system calls each may make.
//!
//! A thread inherits the filters of the one that starts it. So that a CPU's thread may do as good as
//! nothing, it does not start the threads of devices that its guest activates: it asks the main
//! thread of the process, which serves a [`Starter`].

mod calls;
mod ioctls;
mod role;
mod start;
mod stream;

pub use calls::tables;
pub use role::Role;
pub use start::{Starter, Threads, ThreadsError};
pub(crate) use stream::{run_network, stream_filter};
