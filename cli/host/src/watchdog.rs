//! Ends a process that was told to stop and does not come to its end.

use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use crate::stop::{StopCheck, Stopped};

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);

/// The grace period after a second request to stop.
const SECOND_GRACE: Duration = Duration::from_secs(3);

/// A thread that waits for a request to stop. Disarmed when dropped.
#[derive(Debug)]
pub struct Watchdog {
    _alive: Sender<()>,
}

impl Watchdog {
    /// Calls `end` when `stop` has said to stop and `grace` has gone by since then. `end` is for
    /// ending the process: whatever the other threads do, they do not come back.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn start(
        stop: StopCheck,
        grace: Duration,
        end: impl FnOnce(Stopped) + Send + 'static,
    ) -> io::Result<Watchdog> {
        let (alive, gone) = channel();
        std::thread::Builder::new()
            .name(String::from("watchdog"))
            .spawn(move || {
                if let Some(stopped) = wait(&stop, grace, &gone) {
                    end(stopped);
                }
            })?;
        Ok(Watchdog { _alive: alive })
    }
}

/// Waits until the grace period is over; `None` if the work came to its end before.
fn wait(stop: &StopCheck, grace: Duration, gone: &Receiver<()>) -> Option<Stopped> {
    let mut first: Option<(Stopped, Instant)> = None;
    let mut second: Option<Instant> = None;
    while let Err(RecvTimeoutError::Timeout) = gone.recv_timeout(TICK) {
        let Err(stopped) = stop.check() else {
            continue;
        };
        let (reason, since) = *first.get_or_insert((stopped, Instant::now()));
        if stop.requests() > 1 {
            second.get_or_insert_with(Instant::now);
        }
        let over = since.elapsed() >= grace
            || second.is_some_and(|since| since.elapsed() >= SECOND_GRACE.min(grace));
        if over {
            return Some(reason);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupt;

    fn ends_within(requests: usize, grace: Duration) -> Option<Duration> {
        let interrupt = Interrupt::default();
        let (ended, end) = channel();
        let stop = StopCheck::new(&interrupt, None);
        let watchdog = Watchdog::start(stop, grace, move |reason| {
            ended.send(reason).unwrap();
        })
        .unwrap();
        let start = Instant::now();
        for _ in 0..requests {
            interrupt.request();
        }
        let reason = end.recv_timeout(Duration::from_secs(10)).ok();
        drop(watchdog);
        reason.map(|reason| {
            assert_eq!(reason, Stopped::Interrupted);
            start.elapsed()
        })
    }

    #[test]
    fn a_process_that_does_not_come_back_is_ended() {
        let grace = Duration::from_millis(500);
        let time = ends_within(1, grace).unwrap();
        assert!(time >= grace && time < Duration::from_secs(5), "{time:?}");
        // The second request does not wait as long.
        let time = ends_within(2, Duration::from_secs(600)).unwrap();
        assert!(time >= SECOND_GRACE, "{time:?}");
    }

    #[test]
    fn work_that_ends_in_time_is_left_alone() {
        let interrupt = Interrupt::default();
        let (ended, end) = channel();
        let stop = StopCheck::new(&interrupt, None);
        let watchdog = Watchdog::start(stop, Duration::from_millis(300), move |reason| {
            ended.send(reason).unwrap();
        })
        .unwrap();
        interrupt.request();
        drop(watchdog);
        assert_eq!(
            end.recv_timeout(Duration::from_secs(1)),
            Err(RecvTimeoutError::Disconnected)
        );
    }
}
