//! Folders that are made once and appear whole.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

/// Waits for the lock of a file, which is made. The kernel gives it up when this program ends, however
/// that happens.
///
/// # Errors
/// If the file cannot be made.
pub fn lock(path: &Path) -> Result<Flock<File>> {
    let locked = || -> Result<Flock<File>> {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
    };
    locked().with_context(|| format!("cannot lock {}", path.display()))
}

/// Gives a finished folder its name, when all of it is on the disk. What has that name goes.
///
/// # Errors
/// If that fails.
pub fn publish(made: &Path, name: &Path) -> Result<()> {
    let publish = || -> Result<()> {
        nix::unistd::syncfs(File::open(made)?)?;
        if name.exists() {
            fs::remove_dir_all(name)?;
        }
        fs::rename(made, name)?;
        Ok(())
    };
    publish().with_context(|| format!("cannot publish {}", name.display()))
}

/// Removes the folders `.making.…` that a maker which was killed has left in a folder.
///
/// # Errors
/// If one cannot be removed.
pub fn remove_abandoned(folder: &Path) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".making.") {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The SHA-256 sum of bytes, in hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file of a box as its `box.json` describes it.
///
/// # Errors
/// If it cannot be read.
pub fn describe(folder: &Path, name: &str) -> Result<serde_json::Value> {
    let path = folder.join(name);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(serde_json::json!({ "name": name, "size": bytes.len(), "sha256": sha256(&bytes) }))
}
