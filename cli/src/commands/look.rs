//! The time in which the program looks at folders of the user and has not started anything.

use std::time::Duration;

use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::watchdog::Watchdog;
use nix::sys::signal::{SigSet, Signal};

use super::forced_end::forced_end;
use crate::exit_code::{HostContext, Result};

/// How long a look may take after a request to stop.
const GRACE: Duration = Duration::from_secs(1);

/// A look, until it is dropped. Ctrl-C ends the process, even if a file system does not answer: a
/// thread that waits for it does not get to run a signal's handler, so that another one does.
pub(super) struct Look {
    _watchdog: Watchdog,
    before: Option<SigSet>,
}

impl Look {
    /// Begins a look. It must end on the thread that began it.
    pub(super) fn begin(interrupt: &Interrupt, json: bool) -> Result<Look> {
        let stop = StopCheck::new(interrupt, None);
        // With this thread's mask, which lets the signals in.
        let watchdog = Watchdog::start(stop, GRACE, move |stopped| forced_end(stopped, json))
            .host_context(|| "cannot start a thread")?;
        let before = SigSet::thread_get_mask().ok();
        let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        let _ = signals.thread_block();
        Ok(Look {
            _watchdog: watchdog,
            before,
        })
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            let _ = before.thread_set_mask();
        }
    }
}
