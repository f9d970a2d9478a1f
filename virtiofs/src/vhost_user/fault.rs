//! Whether and why a server has stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Whether serving has stopped, and the error if it did so by itself.
#[derive(Debug, Default)]
pub(super) struct Fault {
    stopped: AtomicBool,
    error: Mutex<Option<String>>,
}

impl Fault {
    /// Stops serving because of an error; the first one is kept.
    pub(super) fn set(&self, error: String) {
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
        self.stop();
    }

    /// Stops serving.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Returns the error, if serving has stopped because of one.
    pub(super) fn error(&self) -> Option<String> {
        if !self.is_stopped() {
            return None;
        }
        self.error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
