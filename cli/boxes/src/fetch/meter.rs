//! The progress of a fetch: bytes, rate, and the time left.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxbuild_host::units::{seconds, size};

/// Time over which the rate is averaged.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the bytes of all files of a fetch.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    /// Sum of the known sizes; grows as servers announce them.
    total: AtomicU64,
    /// Bytes that were done at past moments.
    past: Mutex<VecDeque<(Instant, u64)>>,
}

impl Meter {
    /// Counts bytes that have arrived.
    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes back bytes that are fetched again.
    pub(super) fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds the size of a file that is to arrive.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the progress as text, e.g. `1.0 MiB of 2.0 MiB, 1.0 MiB/s, 2.0 s left`.
    pub fn line(&self) -> String {
        let (done, total) = (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        );
        let rate = self.rate(Instant::now(), done);
        let mut text = if total > 0 {
            format!("{} of {}", size(done), size(total))
        } else {
            size(done)
        };
        if rate > 0 {
            text += &format!(", {}/s", size(rate));
            if total > done {
                let left = Duration::from_secs((total - done) / rate + 1);
                text += &format!(", {} left", seconds(left));
            }
        }
        text
    }

    /// Returns the rate in bytes a second.
    fn rate(&self, now: Instant, done: u64) -> u64 {
        let Ok(mut past) = self.past.lock() else {
            return 0;
        };
        past.push_back((now, done));
        while past.len() > 2 && past.front().is_some_and(|(then, _)| now - *then > WINDOW) {
            past.pop_front();
        }
        let Some((then, before)) = past.front() else {
            return 0;
        };
        let millis = u64::try_from((now - *then).as_millis()).unwrap_or(u64::MAX);
        done.saturating_sub(*before).saturating_mul(1000) / millis.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let meter = Meter::default();
        meter.expect(100 << 20);
        assert_eq!(meter.line(), "0 B of 100.0 MiB");
        let start = Instant::now();
        assert_eq!(meter.rate(start, 0), 0);
        assert_eq!(
            meter.rate(start + Duration::from_secs(2), 20 << 20),
            10 << 20
        );
        // Older bytes do not count.
        let later = start + Duration::from_secs(60);
        meter.rate(later, 20 << 20);
        assert_eq!(meter.rate(later + Duration::from_secs(5), 20 << 20), 0);
    }
}
