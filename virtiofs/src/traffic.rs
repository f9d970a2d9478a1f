//! Byte counts of a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a guest has transferred through a device. Clones share the same counters.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Bytes>);

#[derive(Debug, Default)]
struct Bytes {
    to_guest: AtomicU64,
    from_guest: AtomicU64,
}

impl Traffic {
    /// Adds to the bytes that the guest has received.
    pub fn add_to_guest(&self, bytes: usize) {
        self.0.to_guest.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds to the bytes that the guest has sent.
    pub fn add_from_guest(&self, bytes: usize) {
        self.0.from_guest.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Returns the bytes that the guest has received.
    pub fn to_guest(&self) -> u64 {
        self.0.to_guest.load(Ordering::Relaxed)
    }

    /// Returns the bytes that the guest has sent.
    pub fn from_guest(&self) -> u64 {
        self.0.from_guest.load(Ordering::Relaxed)
    }
}
