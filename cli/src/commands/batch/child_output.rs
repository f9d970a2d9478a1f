//! Reads what a build of a batch writes: events on standard output, lines on standard error.
//!
//! The build is this same program, but its texts come from its guest. They are bounded, and control
//! characters are removed from them.

use std::io::{self, BufRead, Read};

use boxbuild_core::kiwi_log::Lines;
use boxbuild_host::text::plain;
use serde_json::Value;

use crate::commands::worker::protocol::WorkerEvent;
use crate::output::event::BuildEvent;

/// Longest event, in bytes. The longest that a build writes has its result files, or up to 15 lines
/// of at most 16 KiB.
const LONGEST_EVENT: usize = 1 << 20;

/// What a build wrote.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ChildOutput {
    /// An event.
    Event(Box<BuildEvent>),
    /// An event of the worker that it runs under.
    Worker(WorkerEvent),
    /// A line that is not an event.
    Line(String),
    /// One of its streams has ended.
    Closed,
}

/// Reads events up to the end of `pipe`. Events of unknown kinds are ignored.
pub(super) fn read_events(mut pipe: impl BufRead, mut take: impl FnMut(ChildOutput)) {
    let mut line = Vec::new();
    loop {
        line.clear();
        match read_line(&mut pipe, &mut line) {
            Ok(0) | Err(_) => break,
            Ok(length) if length > LONGEST_EVENT => take(ChildOutput::Line(format!(
                "boxbuild: an event of {length} bytes was left out (at most {LONGEST_EVENT})"
            ))),
            Ok(_) => match event(&line) {
                Some(ChildOutput::Event(event)) if *event == BuildEvent::Unknown => {}
                Some(event) => take(event),
                None => take(ChildOutput::Line(plain(line.trim_ascii_end()))),
            },
        }
    }
    take(ChildOutput::Closed);
}

/// Reads lines up to the end of `pipe`.
pub(super) fn read_lines(mut pipe: impl Read, mut take: impl FnMut(ChildOutput)) {
    let mut lines = Lines::default();
    let mut buffer = [0; 8 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => lines.push(&buffer[..count], |line| {
                take(ChildOutput::Line(line.to_owned()));
            }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if let Some(rest) = lines.rest() {
        take(ChildOutput::Line(rest));
    }
    take(ChildOutput::Closed);
}

/// Appends a line with its end to `line`, but no more than [`LONGEST_EVENT`] bytes and one. Returns
/// the length of the whole line; 0 at the end of `pipe`.
fn read_line(pipe: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    let mut rest = Vec::new();
    let mut length = pipe
        .by_ref()
        .take(LONGEST_EVENT as u64 + 1)
        .read_until(b'\n', line)?;
    let mut complete = line.ends_with(b"\n") || length <= LONGEST_EVENT;
    while !complete {
        rest.clear();
        let count = pipe.by_ref().take(64 << 10).read_until(b'\n', &mut rest)?;
        length += count;
        complete = count == 0 || rest.ends_with(b"\n");
    }
    Ok(length)
}

/// Parses an event, with harmless texts; `None` if it is not one.
fn event(line: &[u8]) -> Option<ChildOutput> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    sanitise(&mut value);
    let name = value.get("event").and_then(Value::as_str);
    if name.is_some_and(|name| WorkerEvent::NAMES.contains(&name)) {
        return serde_json::from_value(value).ok().map(ChildOutput::Worker);
    }
    let event = serde_json::from_value(value).ok()?;
    Some(ChildOutput::Event(Box::new(event)))
}

/// Removes control characters from every text, except the ends of lines and the names of files, which
/// have to be true.
fn sanitise(value: &mut Value) {
    match value {
        Value::String(text) => {
            let lines = text.split('\n').map(|line| plain(line.as_bytes()));
            *text = lines.collect::<Vec<_>>().join("\n");
        }
        Value::Array(values) => values.iter_mut().for_each(sanitise),
        Value::Object(fields) => {
            for (key, value) in fields {
                if key != "path" {
                    sanitise(value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<ChildOutput> {
        let mut taken = Vec::new();
        // A small buffer: lines go over its end.
        let pipe = io::BufReader::with_capacity(16, text.as_bytes());
        read_events(pipe, |output| taken.push(output));
        assert_eq!(taken.pop(), Some(ChildOutput::Closed));
        taken
    }

    fn note(text: &str) -> ChildOutput {
        ChildOutput::Event(Box::new(BuildEvent::Note {
            text: text.to_owned(),
        }))
    }

    #[test]
    fn events_are_read_and_everything_else_is_a_line() {
        let text = "{\"event\":\"note\",\"text\":\"a\"}\n\n{\"event\":\"weather\"}\n[1]\nwords \x1b[31m\n\
                    {\"event\":\"note\"}\n{\"event\":\"note\",\"text\":\"last\"}";
        let line = |text: &str| ChildOutput::Line(text.to_owned());
        assert_eq!(
            read(text),
            [
                note("a"),
                line(""),
                line("[1]"),
                line("words "),
                line("{\"event\":\"note\"}"),
                note("last"),
            ]
        );
    }

    #[test]
    fn what_a_guest_wrote_is_harmless() {
        let text = r#"{"event":"note","text":"a\u001b[2Jb\u0007\r\nc"}"#;
        assert_eq!(read(text), [note("ab\nc")]);
        let text =
            r#"{"event":"result","status":"failed","reason":"kiwi","message":"m","seconds":1,
            "phases":[],"peak_memory_bytes":null,"last_lines":["\u001b]0;title\u0007"],"log":null,
            "kept":null}"#
                .replace('\n', "");
        assert!(!format!("{:?}", read(&text)).contains("u{1b}"));
    }

    #[test]
    fn an_event_that_is_too_long_is_left_out() {
        let long = format!(
            "{{\"event\":\"note\",\"text\":\"{}\"}}\n",
            "x".repeat(3 * LONGEST_EVENT)
        );
        let text = format!("{long}{{\"event\":\"note\",\"text\":\"next\"}}\n");
        let taken = read(&text);
        assert_eq!(taken.len(), 2);
        assert!(
            matches!(&taken[0], ChildOutput::Line(line) if line.contains(&long.len().to_string())),
            "{:?}",
            taken[0]
        );
        assert_eq!(taken[1], note("next"));
        // One without an end.
        assert_eq!(read(&"x".repeat(2 * LONGEST_EVENT)).len(), 1);
    }

    #[test]
    fn lines_are_read_to_the_end() {
        let mut taken = Vec::new();
        read_lines(&b"one\n\x1b[31mtwo"[..], |output| taken.push(output));
        assert_eq!(
            taken,
            [
                ChildOutput::Line(String::from("one")),
                ChildOutput::Line(String::from("two")),
                ChildOutput::Closed,
            ]
        );
    }
}
