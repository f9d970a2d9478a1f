//! How far a file has come that one thread writes and another one reads.

use std::sync::{Condvar, Mutex, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Progress {
    now: Mutex<Now>,
    changed: Condvar,
}

/// Where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Now {
    pub(super) written: u64,
    /// There will be no more in the file.
    pub(super) ended: bool,
}

impl Progress {
    pub(super) fn written(&self, count: usize) {
        self.change(|now| now.written += count as u64);
    }

    pub(super) fn end(&self) {
        self.change(|now| now.ended = true);
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    /// Waits until there is more than `seen` bytes, or the end.
    pub(super) fn after(&self, seen: u64) -> Now {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |now: &mut Now| now.written <= seen && !now.ended;
        let now = self.changed.wait_while(now, waits);
        *now.unwrap_or_else(PoisonError::into_inner)
    }
}
