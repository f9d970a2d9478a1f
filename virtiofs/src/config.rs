//! What is shared, and how the guest sees it.

use std::path::PathBuf;
use std::time::Duration;

/// One host directory that a guest may use.
///
/// Built by [`ShareConfig::new`] with defaults for a share that one guest has for itself;
/// every field may be changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareConfig {
    /// Existing directory that becomes the root of the guest's file system.
    pub root: PathBuf,
    /// Whether every modifying request answers `EROFS`.
    pub read_only: bool,
    /// User id that the guest sees on files that belong to the calling host user.
    pub guest_uid: u32,
    /// Group id that the guest sees on files that belong to the calling host user.
    pub guest_gid: u32,
    /// How long the guest may trust names and attributes without asking again.
    ///
    /// The default of one day is right when nobody else changes the directory while the
    /// guest runs; host-side changes become visible to the guest only after this time.
    pub timeout: Duration,
    /// Whether the guest keeps its page cache of a file from one open to the next.
    ///
    /// True by default: with long attribute timeouts, dropping pages at each open would cost
    /// speed and yet not make host-side changes visible.
    pub keep_cache: bool,
    /// Whether the guest may gather writes in its page cache (FUSE writeback cache).
    ///
    /// Off by default: times and sizes seen on the host then lag behind the guest.
    pub writeback: bool,
}

impl ShareConfig {
    /// A read-write share of `root` whose files belong to guest root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            read_only: false,
            guest_uid: 0,
            guest_gid: 0,
            timeout: Duration::from_secs(86_400),
            keep_cache: true,
            writeback: false,
        }
    }

    /// The same share, with every modifying request refused.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }
}
