//! How far a fetch is: bytes, rate, and the time that is left.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use boxbuild_host::units::{seconds, size};

/// The rate is that of this time.
const WINDOW: Duration = Duration::from_secs(10);

/// Counts the bytes of all files that are fetched at once.
#[derive(Debug, Default)]
pub struct Meter {
    done: AtomicU64,
    /// Known sizes; grows as servers tell them.
    total: AtomicU64,
    /// Moments and the bytes that were there then.
    past: Mutex<VecDeque<(Instant, u64)>>,
}

impl Meter {
    /// More bytes are there.
    pub(super) fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were counted are of no use.
    pub(super) fn take_back(&self, bytes: u64) {
        self.done.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// More bytes are to come.
    pub(super) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How far it is, in words.
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

    /// Bytes a second.
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
    fn bytes_rate_and_time() {
        let meter = Meter::default();
        meter.expect(100 << 20);
        assert_eq!(meter.line(), "0 B of 100.0 MiB");
        let start = Instant::now();
        assert_eq!(meter.rate(start, 0), 0);
        assert_eq!(
            meter.rate(start + Duration::from_secs(2), 20 << 20),
            10 << 20
        );
        // What was long ago does not count.
        let later = start + Duration::from_secs(60);
        meter.rate(later, 20 << 20);
        assert_eq!(meter.rate(later + Duration::from_secs(5), 20 << 20), 0);
    }
}
