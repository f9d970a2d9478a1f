//! This program as a child of itself: a build of a batch, or one that verifies another.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use boxbuild_host::reaper::die_with_parent;
use nix::sys::signal::Signal;

use crate::args::handed_over;

/// This program, even if its file has been replaced since it was started.
const SELF: &str = "/proc/self/exe";

/// Returns the command for a boxbuild with the command line `words`. It has no input, ends with the
/// thread that starts it (PR_SET_PDEATHSIG), and shows no secret in its arguments.
///
/// # Errors
/// Fails if there is no memory for the words.
pub(super) fn self_command(words: &[OsString]) -> io::Result<Command> {
    let mut command = Command::new(SELF);
    command.arg0("boxbuild");
    match handed_over::hidden(words)? {
        Some(file) => command.arg(handed_over::FROM_INPUT).stdin(file),
        None => command.args(words).stdin(Stdio::null()),
    };
    // Ctrl-C at the terminal is for the parent, which passes it on once.
    command.process_group(0);
    die_with_parent(&mut command, Signal::SIGTERM);
    Ok(command)
}
