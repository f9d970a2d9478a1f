//! A share as a guest sees it: requests through guest memory, a virtqueue and vhost-user to a
//! `ShareServer`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

mod escape;
mod guest;
mod hidden;
mod hostile;
mod locks;
mod model;
mod operation;
mod operations;
mod plain;
mod read_only;
mod root;
mod serve;
mod support;
