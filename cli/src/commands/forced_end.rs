//! The end of a build that was told to stop and does not come to its end.

use std::time::Duration;

use boxbuild_host::stop::Stopped;

use crate::exit_code::{ExitCode, Failure};
use crate::output::json::{emit_exit, emit_failure};
use crate::output::print::print_failure;

/// How long a machine may take to end after a request to stop.
pub(super) const GRACE: Duration = Duration::from_secs(12);

/// How long the last words may take: what blocks the process may be its standard output.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Ends the process in words. Nothing of it is needed for the clean-up: what a killed boxbuild leaves
/// goes in the same way.
pub(super) fn forced_end(stopped: Stopped, json: bool) {
    let code = match stopped {
        Stopped::Interrupted => ExitCode::INTERRUPTED,
        Stopped::TimeOver => ExitCode::TIMEOUT,
    };
    let say = std::thread::Builder::new().spawn(move || {
        let reason = match stopped {
            Stopped::Interrupted => "interrupted",
            Stopped::TimeOver => "the build took longer than it may (--timeout)",
        };
        let failure = Failure::new(
            code,
            anyhow::anyhow!("{reason}; it did not end in time, and what is left is cleaned up now"),
        );
        if json {
            emit_failure(&failure);
            emit_exit(code);
        } else {
            print_failure(&failure);
        }
    });
    let deadline = std::time::Instant::now() + LAST_WORDS;
    while say.as_ref().is_ok_and(|say| !say.is_finished()) && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::process::exit(i32::from(code.number()));
}
