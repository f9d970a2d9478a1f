//! Files that a user or a description names: configuration, keys, lists.
//!
//! A description may come from anywhere, and its files may be links: to an endless
//! device, a pipe without a writer, or a file of any size. Links are followed, but only to regular
//! files, of which a bounded length is read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Limit for files that people write, in bytes: configuration, keys, checksums, lists.
pub const LARGEST_TEXT: u64 = 16 << 20;

/// Opens a regular file for reading. Anything else is looked at without being opened, which can block
/// or have effects on a device.
///
/// # Errors
/// Fails if it is not there, not readable or not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let place = File::options()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)?;
    let kind = place.metadata()?;
    if kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "it is a folder, not a file",
        ));
    }
    if !kind.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    // The very file that was looked at, whatever the path leads to by now.
    File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// See [`open`]; and fails if it is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let text = format!("it has more than {} KiB", limit >> 10);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Reads a regular file of text, of at most [`LARGEST_TEXT`].
///
/// # Errors
/// See [`read`]; and fails if it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path, LARGEST_TEXT)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;

    use super::*;

    /// Fault 29: `config.xml -> /dev/zero`.
    #[test]
    fn what_is_not_a_regular_file_is_never_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "text").unwrap();
        symlink(path("file"), path("link")).unwrap();
        assert_eq!(read_text(&path("link")).unwrap(), "text");
        nix::unistd::mkfifo(&path("pipe"), Mode::S_IRWXU).unwrap();
        symlink("/dev/zero", path("zero")).unwrap();
        symlink("zero", path("indirect")).unwrap();
        symlink("/dev/tty", path("terminal")).unwrap();
        for name in ["pipe", "zero", "indirect", "terminal", ".", "missing"] {
            assert!(read_text(&path(name)).is_err(), "{name}");
        }
        fs::write(path("binary"), [0xff]).unwrap();
        assert!(read_text(&path("binary")).is_err());
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read_text(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(&path, 0).unwrap_err().kind(), error.kind());
    }
}
