//! Where the time of a run goes.
//!
//! A [`Recorder`] is told what happens while a box runs; [`Recorder::finish`] makes a
//! [`Timeline`] of it, a plain value.

mod recorder;
mod samples;
mod span;

pub use recorder::{Milestone, Recorder};
pub use samples::{Sample, Samples};
pub use span::{Part, Span, Timeline};
