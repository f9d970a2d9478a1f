//! Requests for published boxes.

use std::path::Path;

use boxbuild_host::arch::Arch;

use crate::fetch::Key;
use crate::lock_file::Locked;

/// How new a box must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// The published version: an older box is updated.
    Current,
    /// Any version: the box is fetched only if it is missing.
    Any,
    /// The installed version: the network is not used.
    Offline,
    /// Fetched again, even if it is the published version.
    Again,
}

/// A box that is asked for.
#[derive(Debug)]
pub struct PullRequest<'a> {
    /// Name of the box.
    pub name: &'a str,
    /// Its architecture; the host's if `None`.
    pub arch: Option<Arch>,
    /// How new it must be.
    pub freshness: Freshness,
    /// The lock file with the hashes that it must have.
    pub locked: Option<&'a Locked>,
    /// A runtime configuration of kiwi, whose download server counts.
    pub config: Option<&'a Path>,
    /// The key that must have signed the published checksums.
    pub key: Option<Key>,
}
