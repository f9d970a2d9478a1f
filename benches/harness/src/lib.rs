//! What the programs of this package share.

pub mod boot;
pub mod environment;
pub mod fast_boot;
pub mod guard;
pub mod report;
pub mod suites;
pub mod whole_build;
