//! Signals that ask the program to stop.

use boxbuild_host::interrupt::Interrupt;

use crate::exit_code::{HostContext, Result};

/// Makes Ctrl-C, SIGTERM and SIGHUP requests for an orderly end, from here on.
pub(super) fn take_over() -> Result<Interrupt> {
    Interrupt::install().host_context(|| "cannot take over signals")
}
