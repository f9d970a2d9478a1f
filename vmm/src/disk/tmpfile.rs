//! Files without a name (`O_TMPFILE`), which are gone when they are closed unless they get one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

/// Creates a file without a name in the file system of `folder`, readable and writable by its owner alone.
///
/// # Errors
/// If it cannot be made; some file systems do not support such files.
pub fn create(folder: &Path) -> io::Result<File> {
    // Without O_EXCL, which would rule out a name for ever (open(2), O_TMPFILE).
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .mode(0o600)
        .open(folder)
}

/// Gives a file that [`create`] made the name `path`, in the same file system.
///
/// # Errors
/// If there is such a name already, or it cannot be given.
pub fn link(file: &File, path: &Path) -> io::Result<()> {
    // The way that takes no privilege (open(2), O_TMPFILE).
    let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(
        AT_FDCWD,
        descriptor.as_str(),
        AT_FDCWD,
        path,
        AtFlags::AT_SYMLINK_FOLLOW,
    )?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_gets_its_name_late() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = create(dir.path()).unwrap();
        file.write_all(b"kept").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let path = dir.path().join("name");
        link(&file, &path).unwrap();
        assert!(link(&file, &path).is_err());
        drop(file);
        assert_eq!(std::fs::read(path).unwrap(), b"kept");
    }
}
