//! Text on standard output and standard error.

use std::io::{self, Write};

use crate::exit_code::{Failure, HostContext, Result};

/// Prints to standard output. A reader that has gone away (`| head`) is not an error.
pub(crate) fn print_text(text: &str) -> Result<()> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).host_context(|| "cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// Prints a line on standard error. One that is closed does not fail a command.
pub(crate) fn print_line(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints a failure with its causes, one line each.
pub(crate) fn print_failure(failure: &Failure) {
    let mut messages = failure.messages().into_iter();
    if let Some(message) = messages.next() {
        print_line(&format!("boxbuild: {message}"));
    }
    for cause in messages {
        print_line(&format!("  because: {cause}"));
    }
}
