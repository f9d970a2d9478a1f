//! The clock of a guest, which is to follow this host's.
//!
//! A guest reads the time once, when it boots, and then counts by itself. A host that sleeps, or whose
//! clock is set, leaves it behind: a fast-booted guest is told the time then (docs/guest-contract.md).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far the host's clock must have moved against its uptime, to be told: adjustments by NTP are
/// smaller, or the guest is not worse off without them.
const JUMP: Duration = Duration::from_millis(500);

/// The host's clock, compared with the time that this process has run: that does not count sleep.
#[derive(Debug)]
pub(super) struct Clock {
    started: Instant,
    /// The time at `started`, by the clock as the guest knows it.
    origin: Duration,
    /// The guest is there, and does not know the time yet.
    untold: bool,
    follows: bool,
    /// The guest has another time, and keeps it.
    held: bool,
    /// How far the clock has moved since it was last asked for.
    moved: Option<Duration>,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock {
            started: Instant::now(),
            origin: wall(),
            untold: false,
            follows: false,
            held: false,
            moved: None,
        }
    }
}

impl Clock {
    /// The clock of a host whose guest has a time of its own.
    pub(super) fn held() -> Clock {
        Clock {
            held: true,
            ..Clock::default()
        }
    }

    /// The guest follows what it is told from now on.
    pub(super) fn follows(&mut self) {
        self.follows = true;
        self.untold = true;
    }

    /// How far the host's clock has moved, if the guest is not told of it; once for each time.
    pub(super) fn moved_untold(&mut self) -> Option<Duration> {
        self.moved.take().filter(|_| !self.follows)
    }

    /// The time to tell the guest, if its clock is not the host's any more.
    pub(super) fn time_to_tell(&mut self) -> Option<Duration> {
        self.look(wall(), self.started.elapsed())
    }

    /// The same when the host's clock says `now`, and this process has run for `uptime`.
    fn look(&mut self, now: Duration, uptime: Duration) -> Option<Duration> {
        if self.held {
            return None;
        }
        let moved = now.abs_diff(self.origin + uptime);
        if moved >= JUMP {
            self.moved = Some(moved);
            self.origin = now.saturating_sub(uptime);
            self.untold = true;
        }
        (self.follows && std::mem::take(&mut self.untold)).then_some(now)
    }
}

/// The time since the epoch.
fn wall() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_guest_learns_of_each_jump_of_the_hosts_clock() {
        let mut clock = Clock::default();
        let start = clock.origin;
        assert_eq!(clock.look(start + MINUTE, MINUTE), None);
        clock.follows();
        // At first, whatever the machine's own clock says.
        let now = start + MINUTE;
        assert_eq!(clock.look(now, MINUTE), Some(now));
        assert_eq!(clock.look(now, MINUTE), None);
        let slow = Duration::from_millis(400);
        assert_eq!(clock.look(now + slow, MINUTE), None);
        // Eight hours of sleep, which the uptime does not count.
        let woken = now + 480 * MINUTE;
        assert_eq!(clock.look(woken, MINUTE), Some(woken));
        assert_eq!(clock.look(woken + MINUTE, 2 * MINUTE), None);
        // Somebody sets the clock back.
        assert_eq!(clock.look(start, 2 * MINUTE), Some(start));
        assert_eq!(clock.look(start + MINUTE, 3 * MINUTE), None);
    }

    #[test]
    fn a_guest_with_a_time_of_its_own_is_told_nothing() {
        let mut clock = Clock::held();
        let start = clock.origin;
        clock.follows();
        assert_eq!(clock.look(start + 60 * MINUTE, MINUTE), None);
        assert_eq!(clock.moved_untold(), None);
    }

    #[test]
    fn a_jump_before_the_guest_follows_is_told_later() {
        let mut clock = Clock::default();
        let woken = clock.origin + 61 * MINUTE;
        assert_eq!(clock.look(woken, MINUTE), None);
        assert_eq!(clock.moved_untold(), Some(60 * MINUTE));
        assert_eq!(clock.moved_untold(), None);
        clock.follows();
        assert_eq!(clock.look(woken + MINUTE, 2 * MINUTE), Some(woken + MINUTE));
    }
}
