//! The thread of a network that serves a machine of another program.

use boxbuild_jail::seccomp::{Filter, FilterError, is_available};

use super::calls;

/// Returns its filter; `None` if the kernel has none. It is a thread of a process that serves more than
/// this machine: a call that it never needs is refused, and does not end the process.
///
/// # Errors
/// If the rules are wrong.
pub(crate) fn stream_filter() -> Result<Option<Filter>, FilterError> {
    let filter = is_available().then(|| Filter::refusing(&calls::of_stream()));
    filter.transpose()
}
