//! The parts of a run.

use std::time::Duration;

use super::samples::Sample;

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
    /// What it consists of, without gaps, where that is known to the microsecond.
    pub parts: Vec<Part>,
}

/// A part of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What happens in it.
    pub name: &'static str,
    /// How long it takes.
    pub len: Duration,
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

    /// When kiwi wrote its first line, if it did.
    pub fn first_line(&self) -> Option<Duration> {
        let first = self.spans.iter().find(|span| !span.boot)?;
        Some(first.start)
    }
}
