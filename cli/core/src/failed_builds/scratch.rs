//! The folder for what a guest writes to its disk.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// A folder for a disk's changes, which can grow to the size of an image: the box store, or, if that
/// belongs to another user or cannot be written, the folder for large temporary files.
pub fn scratch(store: &Path) -> PathBuf {
    let candidates = candidates(store);
    let found = candidates.iter().find(|folder| is_writable(folder));
    found.unwrap_or(&candidates[1]).clone()
}

/// Checks that there is such a folder.
///
/// # Errors
/// Fails with a message for the user.
pub fn check_scratch(store: &Path) -> Result<(), String> {
    let candidates = candidates(store);
    if candidates.iter().any(|folder| is_writable(folder)) {
        return Ok(());
    }
    let tried: Vec<String> = candidates
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    Err(format!(
        "no folder can be written in which the changes to the box's disk could be kept (tried {}): set TMPDIR \
         to one that has room for an image",
        tried.join(", ")
    ))
}

fn candidates(store: &Path) -> [PathBuf; 3] {
    let large = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    [store.to_owned(), large, PathBuf::from("/tmp")]
}

fn is_writable(folder: &Path) -> bool {
    access(folder, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E9: a read-only root with nothing but a small /tmp.
    #[test]
    fn the_first_folder_that_can_be_written_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(scratch(dir.path()), dir.path());
        let nowhere = dir.path().join("nowhere");
        assert_ne!(scratch(&nowhere), nowhere);
        assert_eq!(check_scratch(&nowhere), Ok(()));
    }
}
