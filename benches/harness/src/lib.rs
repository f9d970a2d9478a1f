//! What the programs of this package share.

pub mod environment;
pub mod guard;
pub mod report;
pub mod suites;
