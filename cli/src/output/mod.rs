//! Everything that is printed, for people and for programs.

mod ci;
mod estimate;
pub(crate) mod event;
pub(crate) mod github;
mod heartbeat;
pub(crate) mod json;
pub(crate) mod mistake;
pub(crate) mod print;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod text;
pub(crate) mod timings;
