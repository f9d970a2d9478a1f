//! How many notices a user gets: a few of each source, and not too many of all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Where in a program a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    pub(super) module: &'static str,
    pub(super) line: u32,
}

/// A number at once, and then one for each interval.
#[derive(Debug, Clone, Copy)]
struct Rate {
    burst: u32,
    interval: Duration,
}

/// Of one source: three times is enough to see that it goes on.
const OF_ONE: Rate = Rate {
    burst: 3,
    interval: Duration::from_mins(1),
};
/// Of all sources.
const OF_ALL: Rate = Rate {
    burst: 20,
    interval: Duration::from_secs(10),
};
/// Sources that are told apart. There are as many as lines that log; a limit all the same.
const MOST_SOURCES: usize = 64;

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: u32,
    /// When the last one was added.
    filled: Option<Instant>,
}

impl Bucket {
    const fn full(rate: Rate) -> Bucket {
        Bucket {
            left: rate.burst,
            filled: None,
        }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        let filled = *self.filled.get_or_insert(now);
        let passed = now.saturating_duration_since(filled).as_secs() / rate.interval.as_secs();
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        if passed > 0 {
            self.left = self.left.saturating_add(passed).min(rate.burst);
            self.filled = Some(now);
        }
    }
}

#[derive(Debug)]
struct Seen {
    bucket: Bucket,
    suppressed: u64,
}

/// Decides which messages become notices.
#[derive(Debug)]
pub(super) struct Limiter {
    sources: BTreeMap<Source, Seen>,
    all: Bucket,
    /// Messages that no notice has counted yet, of sources that are not in the map.
    others: u64,
}

impl Limiter {
    pub(super) const fn new() -> Limiter {
        Limiter {
            sources: BTreeMap::new(),
            all: Bucket::full(OF_ALL),
            others: 0,
        }
    }

    /// Whether a message of `source` becomes a notice; it then tells of so many before it that
    /// did not.
    pub(super) fn admit(&mut self, source: Source, now: Instant) -> Option<u64> {
        self.all.fill(OF_ALL, now);
        if self.sources.len() >= MOST_SOURCES && !self.sources.contains_key(&source) {
            self.suppress();
            return None;
        }
        let seen = self.sources.entry(source).or_insert(Seen {
            bucket: Bucket::full(OF_ONE),
            suppressed: 0,
        });
        seen.bucket.fill(OF_ONE, now);
        if seen.bucket.left == 0 || self.all.left == 0 {
            seen.suppressed = seen.suppressed.saturating_add(1);
            return None;
        }
        seen.bucket.left -= 1;
        self.all.left -= 1;
        Some(std::mem::take(&mut seen.suppressed))
    }

    /// Counts a message that does not become a notice.
    pub(super) fn suppress(&mut self) {
        self.others = self.others.saturating_add(1);
    }

    /// Returns how many messages no notice has counted, and forgets them.
    pub(super) fn take_suppressed(&mut self) -> u64 {
        let others = std::mem::take(&mut self.others);
        let seen = self.sources.values_mut();
        seen.map(|seen| std::mem::take(&mut seen.suppressed))
            .fold(others, u64::saturating_add)
    }
}
