//! What the user and programs read.

pub(crate) mod json;
pub(crate) mod print;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod timings;
