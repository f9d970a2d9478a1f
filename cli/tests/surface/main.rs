//! What a user meets at the command line of a fresh host: help, completions, errors, JSON. Nothing is
//! booted or fetched.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test"
)]

mod completions;
mod equipment;
mod exit_codes;
mod first_run;
mod help;
mod history;
mod jobs;
mod json;
mod settings;
mod strangers;
mod user;
