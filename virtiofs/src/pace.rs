//! How long a serving thread looks out for the next request before it sleeps.
//!
//! To sleep and be woken costs the server and the guest more than most requests themselves, the
//! guest in particular, which has to leave its virtual machine to wake us. While requests follow
//! each other closely, the thread therefore watches the ring for a while. The rule is that of
//! QEMU's I/O threads: a request that comes shortly after the thread has gone to sleep doubles
//! the time, one that comes late ends the watching. And as a machine may be so busy that the
//! guest only runs when we sleep, watching that does not pay is left for a while.

use std::time::Duration;

/// The longest time to watch: about what it takes a guest to get a reply and to ask again.
/// Also QEMU's default (`poll-max-ns`).
const LONGEST: Duration = Duration::from_micros(32);
/// What it starts with.
const SHORTEST: Duration = Duration::from_micros(4);

/// Watching in vain this much oftener than not does not pay: once more than it takes to grow
/// from the shortest to the longest time.
const MISSES: u32 = 4;
/// For how many requests it is then left, at first and at most.
const REST: (u32, u32) = (64, 1024);

/// The time to watch, as it follows from the requests so far.
#[derive(Debug)]
pub(crate) struct Pace {
    window: Duration,
    longest: Duration,
    misses: u32,
    /// Wake-ups to come for which nothing changes.
    rest: u32,
    next_rest: u32,
}

impl Pace {
    /// For a machine with this many processors. With only one, to watch would keep the guest
    /// from running.
    pub(crate) fn new(processors: usize) -> Self {
        Self {
            window: Duration::ZERO,
            longest: if processors > 1 {
                LONGEST
            } else {
                Duration::ZERO
            },
            misses: 0,
            rest: 0,
            next_rest: REST.0,
        }
    }

    /// How long to watch now.
    pub(crate) fn window(&self) -> Duration {
        self.window
    }

    /// The thread has watched for that long, or until there was a request.
    pub(crate) fn watched(&mut self, found: bool) {
        if found {
            self.misses = self.misses.saturating_sub(1);
            if self.misses == 0 {
                self.next_rest = REST.0;
            }
            return;
        }
        self.misses += 1;
        if self.misses == MISSES {
            self.misses = 0;
            self.window = Duration::ZERO;
            self.rest = self.next_rest;
            self.next_rest = (self.next_rest * 2).min(REST.1);
        }
    }

    /// A request has woken the thread, this long after the one before was done.
    pub(crate) fn woken_after(&mut self, idle: Duration) {
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        if idle > self.longest {
            self.window = Duration::ZERO;
        } else if idle > self.window {
            self.window = (self.window * 2).clamp(SHORTEST, self.longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn close_requests_are_watched_for_and_late_ones_are_not() {
        let mut pace = Pace::new(2);
        assert_eq!(pace.window(), Duration::ZERO);
        for window in [4, 8, 16, 32, 32] {
            pace.woken_after(micros(30));
            assert_eq!(pace.window(), micros(window));
        }
        pace.woken_after(micros(33));
        assert_eq!(pace.window(), Duration::ZERO);
    }

    #[test]
    fn the_time_does_not_grow_when_it_is_long_enough() {
        let mut pace = Pace::new(8);
        pace.woken_after(micros(3));
        pace.woken_after(micros(3));
        assert_eq!(pace.window(), micros(4));
    }

    #[test]
    fn watching_in_vain_is_left_for_longer_and_longer() {
        let mut pace = Pace::new(2);
        let mut wake_ups = Vec::new();
        for _ in 0..7 {
            let mut count = 0_u32;
            while pace.window().is_zero() {
                pace.woken_after(micros(30));
                count += 1;
            }
            wake_ups.push(count);
            for _ in 0..MISSES {
                pace.watched(false);
            }
        }
        assert_eq!(wake_ups, [1, 65, 129, 257, 513, 1025, 1025]);
        // Once it pays again, the rests are short again.
        while pace.window().is_zero() {
            pace.woken_after(micros(30));
        }
        pace.watched(true);
        for _ in 0..MISSES {
            pace.watched(false);
        }
        for _ in 0..64 {
            pace.woken_after(micros(30));
            assert_eq!(pace.window(), Duration::ZERO);
        }
        pace.woken_after(micros(30));
        assert_eq!(pace.window(), micros(4));
    }

    #[test]
    fn a_few_hits_do_not_make_up_for_many_misses() {
        let mut pace = Pace::new(2);
        pace.woken_after(micros(30));
        for _ in 0..3 {
            pace.watched(false);
            pace.watched(false);
            pace.watched(true);
        }
        assert_eq!(pace.window(), Duration::ZERO);
    }

    #[test]
    fn a_single_processor_is_left_to_the_guest() {
        let mut pace = Pace::new(1);
        for idle in [0, 1, 10, 100] {
            pace.woken_after(micros(idle));
            assert_eq!(pace.window(), Duration::ZERO);
        }
    }
}
