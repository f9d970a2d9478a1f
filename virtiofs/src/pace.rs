//! How long a serving thread looks out for the next request before it sleeps.
//!
//! To sleep and be woken costs the server and the guest more than most requests themselves, the
//! guest in particular, which has to leave its virtual machine to wake us. While requests follow
//! each other closely, the thread therefore watches the ring for a while. The rule is that of
//! QEMU's I/O threads: a request that comes shortly after the thread has gone to sleep doubles
//! the time, one that comes late ends the watching.

use std::time::Duration;

/// The longest time to watch: about what it takes a guest to get a reply and to ask again.
/// Also QEMU's default (`poll-max-ns`).
const LONGEST: Duration = Duration::from_micros(32);
/// What it starts with.
const SHORTEST: Duration = Duration::from_micros(4);

/// The time to watch, as it follows from the requests so far.
#[derive(Debug)]
pub(crate) struct Pace {
    window: Duration,
    longest: Duration,
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
        }
    }

    /// How long to watch now.
    pub(crate) fn window(&self) -> Duration {
        self.window
    }

    /// A request has woken the thread, this long after the one before was done.
    pub(crate) fn woken_after(&mut self, idle: Duration) {
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
    fn a_single_processor_is_left_to_the_guest() {
        let mut pace = Pace::new(1);
        for idle in [0, 1, 10, 100] {
            pace.woken_after(micros(idle));
            assert_eq!(pace.window(), Duration::ZERO);
        }
    }
}
