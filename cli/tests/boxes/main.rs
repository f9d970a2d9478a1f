//! Published boxes: fetched from a server that misbehaves on cue, by processes that are killed; and
//! boxes that are imported.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test"
)]

mod crash;
mod damage;
mod download;
mod export;
mod hostile;
mod import;
mod kiwi_cache;
mod pull;
mod sandbox;
mod server;
mod sets;
mod trust;
