//! The harness of the benchmarks: suites against peers, counted boots, the regression guard.

pub mod boot;
pub mod environment;
pub mod fast_boot;
pub mod guard;
pub mod report;
pub mod suites;
pub mod whole_build;
