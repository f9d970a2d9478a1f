//! KIWI's package cache of the host.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

/// Where KIWI keeps packages between builds (kiwi's default of `--shared-cache-dir`).
pub(super) const CACHE: &str = "/var/cache/kiwi";

/// KIWI's package cache, if no other build holds it: kiwi keeps repository lists there, too,
/// which two builds at once would mix up.
pub(super) fn hold(by_root: bool) -> Option<Flock<File>> {
    let cache = Path::new(CACHE);
    if by_root && !cache.exists() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(cache)
            .ok()?;
    }
    let handle = File::open(cache).ok()?;
    // Another user who can write there could give packages to a build that root runs.
    let metadata = handle.metadata().ok()?;
    if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
        return None;
    }
    Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok()
}
