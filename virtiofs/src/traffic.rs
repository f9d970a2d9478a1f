//! How much a guest has moved through a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that a guest has moved through a device. Clones are views of the same numbers.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Bytes>);

#[derive(Debug, Default)]
struct Bytes {
    to_guest: AtomicU64,
    from_guest: AtomicU64,
}

impl Traffic {
    /// Counts `bytes` that the guest has got.
    pub fn add_to_guest(&self, bytes: usize) {
        self.0.to_guest.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts `bytes` that the guest has given.
    pub fn add_from_guest(&self, bytes: usize) {
        self.0.from_guest.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that the guest has got.
    pub fn to_guest(&self) -> u64 {
        self.0.to_guest.load(Ordering::Relaxed)
    }

    /// Bytes that the guest has given.
    pub fn from_guest(&self) -> u64 {
        self.0.from_guest.load(Ordering::Relaxed)
    }
}
