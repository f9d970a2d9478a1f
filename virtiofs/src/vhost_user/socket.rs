//! The socket of one connection.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

/// Returns a listener with one connection waiting, and the other end of that connection. The
/// socket has a name only during this call, in a private directory.
///
/// # Errors
/// If the temporary directory cannot be used.
pub fn connected_listener() -> io::Result<(UnixListener, UnixStream)> {
    let dir = tempfile::Builder::new().prefix("boxbuild-").tempdir()?;
    // A socket's name has at most 107 bytes (unix(7)); TMPDIR may be longer than that.
    let handle = std::fs::File::open(dir.path())?;
    let name = format!("/proc/self/fd/{}/share", handle.as_raw_fd());
    let listener = UnixListener::bind(&name)?;
    let end = UnixStream::connect(&name)?;
    dir.close()?;
    Ok((listener, end))
}
