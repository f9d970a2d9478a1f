//! The thread of a network that serves a machine of another program.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use boxbuild_jail::seccomp::{Filter, FilterError, is_available};

use super::calls;

/// Locks the calling thread with `filter`, and runs a network on it. Nothing sees what a panic leaves half done:
/// the caller drops the network, and with it the link.
///
/// # Errors
/// As `run`; and if the thread cannot be locked. A panic is logged, and no error.
pub(crate) fn run_network(
    thread: &str,
    filter: Option<&Filter>,
    run: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let locked = filter.map_or(Ok(()), |filter| filter.install(thread));
    let locked = locked.map_err(io::Error::other);
    catch_unwind(AssertUnwindSafe(|| locked.and_then(|()| run()))).unwrap_or_else(|_| {
        log::error!("the network failed and is gone; the guest's link is down");
        Ok(())
    })
}

/// Returns its filter; `None` if the kernel has none. It is a thread of a process that serves more than
/// this machine: a call that it never needs is refused, and does not end the process.
///
/// # Errors
/// If the rules are wrong.
pub(crate) fn stream_filter() -> Result<Option<Filter>, FilterError> {
    let filter = is_available().then(|| Filter::refusing(&calls::of_stream()));
    filter.transpose()
}
