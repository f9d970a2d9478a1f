//! How the CPUs are told to stop, and how a run ended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kick::kick;

/// How a run ended, seen from outside the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest powered itself off.
    PoweredOff,
    /// The guest asked for a reset.
    Reset,
    /// A CPU met an exception while it delivered a double fault, and cannot go on (Intel SDM
    /// volume 3, 6.15, "double fault"). Some kernels reset in this way; the text says which CPU,
    /// and where.
    TripleFault(String),
    /// KVM or we failed; the text says how.
    Failed(String),
    /// Stopped from outside.
    Killed,
}

/// Stops the CPUs, from any thread. Clones stop the same ones.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<State>);

#[derive(Debug, Default)]
struct State {
    requested: AtomicBool,
    why: Mutex<Why>,
}

#[derive(Debug, Default)]
struct Why {
    reason: Option<Ended>,
    /// The boot CPU's thread while it listens to the signal.
    boot_cpu: Option<libc::pthread_t>,
}

impl Stop {
    /// Creates a value with which nothing has been stopped yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    fn why(&self) -> MutexGuard<'_, Why> {
        self.0.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the CPUs because of `reason`, if they have not been stopped: the first reason stays.
    pub fn request(&self, reason: Ended) {
        let mut why = self.why();
        why.reason.get_or_insert(reason);
        self.0.requested.store(true, Ordering::SeqCst);
        if let Some(boot_cpu) = why.boot_cpu {
            // SAFETY: the thread takes its name away before it ends, under the lock that we hold.
            unsafe { kick(boot_cpu) };
        }
    }

    /// Whether a stop is requested.
    pub(super) fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::SeqCst)
    }

    /// Whether the guest is stopped from outside.
    pub(crate) fn is_killed(&self) -> bool {
        // The lock is for threads that have nothing more to do.
        self.is_requested() && self.reason() == Some(Ended::Killed)
    }

    /// Returns why; `None` before a stop is requested.
    pub(super) fn reason(&self) -> Option<Ended> {
        self.why().reason.clone()
    }

    /// While the result lives, a request interrupts the thread that calls this.
    pub(super) fn interrupts_this_thread(&self) -> Interrupts<'_> {
        // SAFETY: the call has no preconditions.
        self.why().boot_cpu = Some(unsafe { libc::pthread_self() });
        Interrupts(self)
    }
}

/// See [`Stop::interrupts_this_thread`].
pub(super) struct Interrupts<'a>(&'a Stop);

impl Drop for Interrupts<'_> {
    fn drop(&mut self) {
        self.0.why().boot_cpu = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let stop = Stop::new();
        assert!(!stop.is_requested());
        assert_eq!(stop.reason(), None);
        let other = stop.clone();
        other.request(Ended::Reset);
        stop.request(Ended::Killed);
        assert!(stop.is_requested());
        assert_eq!(stop.reason(), Some(Ended::Reset));
    }
}
