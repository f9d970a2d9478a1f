//! How often a guest may have the host's file system written to its disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// syncfs(2) writes what every user of the host's file system has written: a guest that repeats
/// it gets one in this time, after [`BURST`] at once.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many a guest gets without waiting.
const BURST: u32 = 8;

/// When the next syncfs(2) may be, were there no burst.
#[derive(Debug, Default)]
pub(super) struct SyncPace(Mutex<Option<Instant>>);

impl SyncPace {
    /// Takes a turn at the time `now`; returns how long it is to wait, at most [`INTERVAL`] for
    /// each turn that waits already.
    pub(super) fn turn(&self, now: Instant) -> Duration {
        let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.map_or(now, |next| next.max(now));
        *next = Some(due + INTERVAL);
        (due - now).saturating_sub(INTERVAL * (BURST - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_one_a_second() {
        let (pace, start) = (SyncPace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.turn(start), Duration::ZERO);
        }
        assert_eq!(pace.turn(start), INTERVAL);
        let later = start + Duration::from_secs(3600);
        for _ in 0..BURST {
            assert_eq!(pace.turn(later), Duration::ZERO);
        }
        assert_eq!(pace.turn(later + INTERVAL), Duration::ZERO);
        assert_eq!(pace.turn(later + INTERVAL), INTERVAL);
    }
}
