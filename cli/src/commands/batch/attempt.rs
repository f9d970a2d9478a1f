//! An attempt at a build through a runner, as it is recorded.

use serde::{Deserialize, Serialize};

/// An attempt that has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// The host, where it is known.
    pub(super) host: Option<String>,
    /// `built`, `failed`, `stopped`, `lost`, `cancelled`, `unreachable`, `unfit` or `host-problem`.
    pub(super) result: String,
    /// Why it did not build.
    pub(super) reason: Option<String>,
    /// How long it took, with the time in a queue.
    pub(super) seconds: f64,
}
