//! Files of a tree that is packed.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes a file to `path` below `dir`, with the folders that lead to it.
pub(super) fn write(dir: &Path, path: &str, mode: u32, content: &str) -> io::Result<()> {
    let path = dir.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(&path, content)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))
}
