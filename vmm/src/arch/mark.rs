//! Moments of a boot that the guest marks.

use std::time::Duration;

/// A moment that the guest marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The byte that it wrote.
    pub code: u8,
    /// When, after the start of the machine.
    pub after: Duration,
}
