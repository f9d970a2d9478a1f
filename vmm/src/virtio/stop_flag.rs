//! How the threads of a device learn that they shall stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tells the threads of one activation of a device to stop. Clones are the same flag.
///
/// A thread that waits is woken by an event; this is for one that works: it looks between two
/// chains, and between two pieces of a long one, so that the driver's reset and the machine's end
/// never wait for what a guest has put into a queue.
#[derive(Debug, Clone, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Creates a flag that is not raised.
    pub fn new() -> StopFlag {
        StopFlag::default()
    }

    /// Tells the threads to stop.
    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the threads shall stop.
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
