//! Whether a long piece of work is to go on.

use std::time::{Duration, Instant};

use crate::interrupt::Interrupt;

/// Why a piece of work is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    /// The user asked for it.
    #[error("interrupted")]
    Interrupted,
    /// Its time is over.
    #[error("it takes too long")]
    TimeOver,
}

impl Stopped {
    /// The reason in an error of an operation that was stopped.
    pub fn of(error: &std::io::Error) -> Option<Stopped> {
        error.get_ref()?.downcast_ref().copied()
    }
}

/// What a piece of work asks between its steps, each of which is short.
#[derive(Debug, Clone, Default)]
pub struct StopCheck {
    interrupt: Interrupt,
    until: Option<Instant>,
}

impl StopCheck {
    /// Stops when the user asks for it, and at `until` if there is such a time.
    pub fn new(interrupt: &Interrupt, until: Option<Instant>) -> StopCheck {
        StopCheck {
            interrupt: interrupt.clone(),
            until,
        }
    }

    /// Stops when the user asks for it, and after `time`.
    pub fn within(interrupt: &Interrupt, time: Duration) -> StopCheck {
        StopCheck::new(interrupt, Instant::now().checked_add(time))
    }

    /// Returns an error once the work is to stop.
    ///
    /// # Errors
    /// Fails with the reason.
    pub fn check(&self) -> Result<(), Stopped> {
        if self.interrupt.count() > 0 {
            return Err(Stopped::Interrupted);
        }
        match self.until {
            Some(until) if Instant::now() >= until => Err(Stopped::TimeOver),
            _ => Ok(()),
        }
    }

    /// How often the user asked.
    pub(crate) fn requests(&self) -> usize {
        self.interrupt.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_counts_more_than_the_time() {
        let interrupt = Interrupt::default();
        let endless = StopCheck::new(&interrupt, None);
        let over = StopCheck::within(&interrupt, Duration::ZERO);
        assert_eq!(endless.check(), Ok(()));
        assert_eq!(over.check(), Err(Stopped::TimeOver));
        interrupt.request();
        assert_eq!(endless.check(), Err(Stopped::Interrupted));
        assert_eq!(over.check(), Err(Stopped::Interrupted));
    }
}
