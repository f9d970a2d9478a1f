//! The protocol between boxbuild on the host and its guest side, in both directions, written once
//! (docs/guest-contract.md): the host's packages and `boxinit`, process 1 of the guest, use the same
//! types.
//!
//! Values only: nothing here opens a file or a device. The host treats everything that a guest sends
//! as hostile. Its parsers take a whole line or a frame's head, ignore what they do not know, and
//! bound what they keep.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod boot_options;
pub mod container_network;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
pub mod host_message;
pub mod job;
pub mod kernel_args;
mod line;
pub mod paths;
pub mod ports;
pub mod report;
pub mod share;
pub mod xz;
