//! Timeouts and repetitions.

use std::time::Duration;

/// When a transfer is given up, and when it is tried again.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// Time without a byte after which a connection is given up.
    pub stall: Duration,
    /// Pause before the first repetition; doubled with each further one.
    pub backoff: Duration,
    /// Attempts in a row without progress after which a fetch is given up.
    pub attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            stall: Duration::from_secs(60),
            backoff: Duration::from_secs(1),
            attempts: 5,
        }
    }
}
