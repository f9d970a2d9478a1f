//! Where the time of a run goes: `--timings`.
//!
//! A [`Recorder`] is told what happens while a box runs; [`Recorder::finish`] makes a
//! [`Timeline`] of it, a plain value that [`text`] and [`html`] show.

mod chart;
mod html;
mod recorder;
mod samples;
mod show;
mod text;

use std::time::Duration;

pub use html::{Facts, page};
pub use recorder::{Milestone, Recorder};
pub use samples::{Sample, Samples};
pub use show::{PageError, show};
pub use text::table;

/// How `--timings` is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table on standard error.
    #[default]
    Text,
    /// A page in the target directory, and the table.
    Html,
}

/// Name of the page in the target directory.
pub const PAGE: &str = "timings.html";

/// A part of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What happens in it.
    pub name: String,
    /// When it begins, since boxbuild's start.
    pub start: Duration,
    /// When the next one begins.
    pub end: Duration,
    /// It lies in front of kiwi's first line.
    pub boot: bool,
}

impl Span {
    /// How long it is.
    pub fn len(&self) -> Duration {
        self.end.saturating_sub(self.start)
    }

    /// Whether it took no time.
    pub fn is_empty(&self) -> bool {
        self.len().is_zero()
    }
}

/// What is known of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    /// The parts, in order, without gaps.
    pub spans: Vec<Span>,
    /// What the machine used meanwhile.
    pub samples: Vec<Sample>,
}

impl Timeline {
    /// From boxbuild's start to the end.
    pub fn total(&self) -> Duration {
        self.spans.last().map_or(Duration::ZERO, |span| span.end)
    }

    /// When kiwi said its first line, if it said any.
    pub fn first_line(&self) -> Option<Duration> {
        let first = self.spans.iter().find(|span| !span.boot)?;
        Some(first.start)
    }
}
