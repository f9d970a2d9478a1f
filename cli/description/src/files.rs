//! Reading files of a description: regular ones, of a bounded length.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use boxbuild_host::input;

/// Longest file that is looked at, in bytes. Descriptions have some ten kilobytes.
const LONGEST: u64 = 4 << 20;

/// Why a file cannot be looked at.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// No kiwi reads it either.
    Never(String),
    /// The user may not read it; root may.
    Forbidden,
    /// It is longer than what is looked at here.
    TooLong,
}

/// Reads a file of the host.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Unreadable> {
    let never = |text: &str| Unreadable::Never(text.to_owned());
    input::read(path, LONGEST).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Unreadable::Forbidden,
        io::ErrorKind::FileTooLarge => Unreadable::TooLong,
        io::ErrorKind::IsADirectory => never("is a folder, not a file"),
        io::ErrorKind::InvalidInput => never(kind(path)),
        io::ErrorKind::NotFound => never("does not exist"),
        _ => Unreadable::Never(error.to_string()),
    })
}

/// Names a file that is not a regular one.
fn kind(path: &Path) -> &'static str {
    match fs::metadata(path).map(|metadata| metadata.file_type()) {
        Ok(kind) if kind.is_fifo() => "is a named pipe, not a regular file",
        Ok(kind) if kind.is_socket() => "is a socket, not a regular file",
        Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
            "is a device, not a regular file"
        }
        _ => "is not a regular file",
    }
}
