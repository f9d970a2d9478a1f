//! The harness of the benchmarks: suites against peers, counted boots, the regression guard.

#![allow(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a program for the terminal"
)]

pub mod boot;
pub mod environment;
pub mod fast_boot;
pub mod guard;
pub mod package_cache;
pub mod report;
pub mod suites;
pub mod whole_build;
