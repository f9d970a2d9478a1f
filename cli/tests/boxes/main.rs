//! Published boxes: fetched from a server that misbehaves on cue, by processes that are killed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

mod bench;
mod crash;
mod download;
mod import;
mod pull;
mod server;
mod sets;
