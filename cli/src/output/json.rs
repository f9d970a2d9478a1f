//! Events and documents for programs, on standard output (docs/json.md).

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use boxbuild_host::text;
use serde::Serialize;

use super::ci;
use super::event::BuildEvent;
use super::print::{print_failure, print_text, unless_closed};
use crate::exit_code::{ExitCode, Failure, HostContext, Result};

/// An event with the time at which it was written.
#[derive(Serialize)]
struct Stamped<'a, E: Serialize> {
    #[serde(flatten)]
    event: &'a E,
    /// As RFC 3339 has it, in UTC.
    time: String,
}

/// Writes one event as a line, and flushes it. A reader that has gone away does not end a build.
pub(crate) fn emit(event: &impl Serialize) {
    let stamped = Stamped {
        event,
        time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
    };
    let Ok(line) = serde_json::to_string(&stamped) else {
        return;
    };
    let line = text::json(&line);
    let line = ci::harmless_json(&line);
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
    if let Err(failure) = unless_closed(written)
        && !LOST.swap(true, Ordering::Relaxed)
    {
        print_failure(&failure);
    }
}

/// An event could not be written. It is said once, on standard error: the build goes on.
static LOST: AtomicBool = AtomicBool::new(false);

/// Writes the failure of a build.
pub(crate) fn emit_failure(failure: &Failure) {
    emit_failure_with(failure, None);
}

/// Writes the failure of a build, and what may help.
pub(crate) fn emit_failure_with(failure: &Failure, hint: Option<String>) {
    let mut messages = failure.messages().into_iter();
    emit(&BuildEvent::Error {
        message: messages.next().unwrap_or_default(),
        causes: messages.collect(),
        hint,
    });
}

/// Writes the last event of a build.
pub(crate) fn emit_exit(code: ExitCode) {
    emit(&BuildEvent::Exit {
        code: code.number(),
    });
}

/// Returns what will be printed as one object or array.
pub(crate) fn value(document: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(document).host_context(|| "cannot write JSON")
}

/// Prints one object or array, indented.
pub(crate) fn print_document(document: &impl Serialize) -> Result<()> {
    print_text(&document_text(document)?)
}

/// Prints one object or array in one line.
pub(crate) fn print_line_document(document: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(document).host_context(|| "cannot write JSON")?;
    print_text(&(ci::harmless_json(&text::json(&text)).into_owned() + "\n"))
}

/// Returns one object or array as indented text.
fn document_text(document: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(document).host_context(|| "cannot write JSON")?;
    Ok(ci::harmless_json(&text::json(&text)).into_owned() + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_time() {
        let event = BuildEvent::Exit { code: 0 };
        let stamped = Stamped {
            event: &event,
            time: humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH).to_string(),
        };
        let line = serde_json::to_string(&stamped).unwrap();
        assert_eq!(
            line,
            r#"{"event":"exit","code":0,"time":"1970-01-01T00:00:00.000Z"}"#
        );
        assert_eq!(serde_json::from_str::<BuildEvent>(&line).unwrap(), event);
    }

    /// Fault 13: programs get true names, a terminal that shows them nothing but text.
    #[test]
    fn json_has_true_names_and_is_harmless() {
        let name = "a\n\x1b[2J\u{9b}31m\u{202e}b\u{7f}";
        let text = document_text(&[name]).unwrap();
        let mut harmful = text.chars().filter(|char| text::is_harmful(*char));
        assert!(harmful.all(|char| char == '\n'), "{text:?}");
        let read: Vec<String> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, [name]);
    }
}
