//! How the CPUs are told to stop, and why they did.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::run;

/// Why the CPUs stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The guest powered itself off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// A CPU met an exception while it delivered a double fault, and cannot go on (Intel SDM
    /// volume 3, 6.15, "double fault"). Some kernels reset in this way; the text says where.
    TripleFault(String),
    /// KVM could not go on; the text says how.
    Failed(String),
    /// Somebody outside wants the end.
    Killed,
}

/// Ends the guest, from any thread. Clones end the same one.
#[derive(Debug, Clone, Default)]
pub struct Ending(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// The CPUs shall stop.
    stop: AtomicBool,
    why: Mutex<Why>,
}

#[derive(Debug, Default)]
struct Why {
    reason: Option<Stopped>,
    /// The thread of the first CPU while it listens to the signal.
    first: Option<libc::pthread_t>,
}

impl Ending {
    /// An end that has not come yet.
    pub fn new() -> Ending {
        Ending::default()
    }

    fn why(&self) -> MutexGuard<'_, Why> {
        self.0.why.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the guest because of `reason`, if it has not been ended: the first reason stays.
    pub fn end(&self, reason: Stopped) {
        let mut why = self.why();
        why.reason.get_or_insert(reason);
        self.0.stop.store(true, Ordering::SeqCst);
        if let Some(first) = why.first {
            // SAFETY: the thread takes its name away before it ends, under the lock that we hold.
            unsafe { run::kick(first) };
        }
    }

    /// Whether the CPUs shall stop.
    pub(super) fn has_come(&self) -> bool {
        self.0.stop.load(Ordering::SeqCst)
    }

    /// Why; nothing if the end has not come.
    pub(super) fn reason(&self) -> Option<Stopped> {
        self.why().reason.clone()
    }

    /// While the result lives, the end interrupts the thread that calls this.
    pub(super) fn interrupts_me(&self) -> Interrupts<'_> {
        // SAFETY: the call has no preconditions.
        self.why().first = Some(unsafe { libc::pthread_self() });
        Interrupts(self)
    }
}

/// See [`Ending::interrupts_me`].
pub(super) struct Interrupts<'a>(&'a Ending);

impl Drop for Interrupts<'_> {
    fn drop(&mut self) {
        self.0.why().first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let ending = Ending::new();
        assert!(!ending.has_come());
        assert_eq!(ending.reason(), None);
        let other = ending.clone();
        other.end(Stopped::Reset);
        ending.end(Stopped::Killed);
        assert!(ending.has_come());
        assert_eq!(ending.reason(), Some(Stopped::Reset));
    }
}
