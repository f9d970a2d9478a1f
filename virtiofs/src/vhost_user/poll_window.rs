//! How long the queue worker polls for the next request before it sleeps.
//!
//! Sleeping and being woken costs the server and the guest more than most requests themselves;
//! the guest in particular, which has to leave its virtual machine to wake the server. While
//! requests follow each other closely, the worker therefore polls the queues for a while. The
//! rule is that of QEMU's I/O threads: a request that comes shortly after the worker has gone to
//! sleep doubles the time, one that comes late ends the polling. On a busy machine, however, the
//! guest may only run while the worker sleeps, so polling that does not pay is suspended for a
//! while.

use std::time::Duration;

/// The longest time to poll: about what it takes a guest to get a reply and to ask again.
/// Also QEMU's default (`poll-max-ns`).
const LONGEST: Duration = Duration::from_micros(32);
/// The first time to poll.
const SHORTEST: Duration = Duration::from_micros(4);

/// By how much misses have to outnumber hits until polling is suspended: one more than the steps
/// from the shortest to the longest time.
const MISSES: u32 = 4;
/// For how many wake-ups polling is then suspended, at first and at most.
const SUSPENSION: (u32, u32) = (64, 1024);

/// The time to poll, adapted to the requests so far.
#[derive(Debug)]
pub(super) struct PollWindow {
    window: Duration,
    longest: Duration,
    misses: u32,
    /// Wake-ups for which polling is still suspended.
    suspended: u32,
    next_suspension: u32,
}

impl PollWindow {
    /// A window for a machine with this many processors. With only one, polling would keep the
    /// guest from running.
    pub(super) fn new(processors: usize) -> Self {
        Self {
            window: Duration::ZERO,
            longest: if processors > 1 {
                LONGEST
            } else {
                Duration::ZERO
            },
            misses: 0,
            suspended: 0,
            next_suspension: SUSPENSION.0,
        }
    }

    /// Returns how long to poll now.
    pub(super) fn get(&self) -> Duration {
        self.window
    }

    /// Records that polling has ended with a request (`hit`), or without one after all of the
    /// window.
    pub(super) fn polled(&mut self, hit: bool) {
        if hit {
            self.misses = self.misses.saturating_sub(1);
            if self.misses == 0 {
                self.next_suspension = SUSPENSION.0;
            }
            return;
        }
        self.misses += 1;
        if self.misses == MISSES {
            self.misses = 0;
            self.window = Duration::ZERO;
            self.suspended = self.next_suspension;
            self.next_suspension = (self.next_suspension * 2).min(SUSPENSION.1);
        }
    }

    /// Records that a request has woken the worker, this long after the last one was done.
    pub(super) fn woken_after(&mut self, idle: Duration) {
        if self.suspended > 0 {
            self.suspended -= 1;
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
    fn close_requests_are_polled_for_and_late_ones_are_not() {
        let mut window = PollWindow::new(2);
        assert_eq!(window.get(), Duration::ZERO);
        for expected in [4, 8, 16, 32, 32] {
            window.woken_after(micros(30));
            assert_eq!(window.get(), micros(expected));
        }
        window.woken_after(micros(33));
        assert_eq!(window.get(), Duration::ZERO);
    }

    #[test]
    fn the_window_stops_growing_when_it_is_long_enough() {
        let mut window = PollWindow::new(8);
        window.woken_after(micros(3));
        window.woken_after(micros(3));
        assert_eq!(window.get(), micros(4));
    }

    #[test]
    fn misses_suspend_polling_for_longer_and_longer() {
        let mut window = PollWindow::new(2);
        let mut wake_ups = Vec::new();
        for _ in 0..7 {
            let mut count = 0_u32;
            while window.get().is_zero() {
                window.woken_after(micros(30));
                count += 1;
            }
            wake_ups.push(count);
            for _ in 0..MISSES {
                window.polled(false);
            }
        }
        assert_eq!(wake_ups, [1, 65, 129, 257, 513, 1025, 1025]);
        // Once polling pays again, the suspensions are short again.
        while window.get().is_zero() {
            window.woken_after(micros(30));
        }
        window.polled(true);
        for _ in 0..MISSES {
            window.polled(false);
        }
        for _ in 0..64 {
            window.woken_after(micros(30));
            assert_eq!(window.get(), Duration::ZERO);
        }
        window.woken_after(micros(30));
        assert_eq!(window.get(), micros(4));
    }

    #[test]
    fn a_few_hits_do_not_outweigh_many_misses() {
        let mut window = PollWindow::new(2);
        window.woken_after(micros(30));
        for _ in 0..3 {
            window.polled(false);
            window.polled(false);
            window.polled(true);
        }
        assert_eq!(window.get(), Duration::ZERO);
    }

    #[test]
    fn a_single_processor_never_polls() {
        let mut window = PollWindow::new(1);
        for idle in [0, 1, 10, 100] {
            window.woken_after(micros(idle));
            assert_eq!(window.get(), Duration::ZERO);
        }
    }
}
