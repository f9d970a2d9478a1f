//! The folder for what a guest writes to its disk.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// A folder for a disk's changes, which can grow to the size of an image: the box store, or,
/// if that belongs to another user, the folder for large temporary files.
pub fn scratch(store: &Path) -> PathBuf {
    if access(store, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() {
        return store.to_owned();
    }
    std::env::var_os("TMPDIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from("/var/tmp"))
}
