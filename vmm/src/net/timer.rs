//! The timer of the network.

use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(250);

/// A timer that ticks while it is needed; it takes a descriptor when it first starts.
#[derive(Debug, Default)]
pub(super) struct Timer {
    timer: Option<TimerFd>,
    ticks: bool,
}

impl Timer {
    /// Starts it: each tick is an event of `epoll` with this token.
    pub(super) fn start(&mut self, epoll: &Epoll, token: u64) {
        if !self.ticks {
            match self.try_start(epoll, token) {
                Ok(()) => self.ticks = true,
                // The next caller tries again.
                Err(error) => log::warn!("the network's timer cannot be set: {error}"),
            }
        }
    }

    fn try_start(&mut self, epoll: &Epoll, token: u64) -> nix::Result<()> {
        let timer = match &self.timer {
            Some(timer) => timer,
            None => {
                let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
                let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
                epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
                self.timer.insert(timer)
            }
        };
        let interval = Expiration::Interval(TimeSpec::from_duration(TICK));
        timer.set(interval, TimerSetTimeFlags::empty())
    }

    /// Acknowledges a tick.
    pub(super) fn seen(&self) {
        if let Some(timer) = &self.timer {
            // It says how often; once is enough.
            let _ = timer.wait();
        }
    }

    /// Stops it.
    pub(super) fn stop(&mut self) {
        if let Some(timer) = &self.timer
            && let Err(error) = timer.unset()
        {
            log::warn!("the network's timer cannot be stopped: {error}");
        }
        self.ticks = false;
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};

    use super::*;

    #[test]
    fn it_ticks_only_when_asked_to() {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let mut timer = Timer::default();
        timer.seen();
        timer.stop();
        let mut events = [EpollEvent::empty()];
        for _ in 0..2 {
            timer.start(&epoll, 7);
            timer.start(&epoll, 7);
            assert_eq!(epoll.wait(&mut events, 5000_u16), Ok(1));
            assert_eq!(events[0].data(), 7);
            timer.seen();
            timer.stop();
            assert_eq!(epoll.wait(&mut events, EpollTimeout::ZERO), Ok(0));
        }
    }
}
