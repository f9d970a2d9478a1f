//! kiwi's log, as it grows.

use std::io;
use std::path::Path;

use super::last_lines::LastLines;
use crate::kiwi_log::Tail;

/// Lines that are kept for the report of a failure.
const LAST_LINES: usize = 12;

/// kiwi's log, as it grows.
#[derive(Debug)]
pub(super) struct BuildLog {
    tail: Tail,
    last: LastLines,
    errors: LastLines,
}

impl BuildLog {
    /// The log at `path`, which need not exist yet.
    pub(super) fn new(path: &Path) -> BuildLog {
        BuildLog {
            tail: Tail::new(path),
            last: LastLines::new(LAST_LINES),
            errors: LastLines::new(LAST_LINES),
        }
    }

    /// Takes what the log has gained: its new lines, or `None` if it has not grown. A log that
    /// cannot be read does not end a build; its end decides.
    pub(super) fn poll(&mut self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        let grown = self.tail.poll(|line| lines.push(line.to_owned()));
        self.take(grown, lines)
    }

    /// Takes what a look at the file gave: whether it has grown, and the lines that were read
    /// before the end or an error.
    fn take(&mut self, grown: io::Result<bool>, lines: Vec<String>) -> Option<Vec<String>> {
        for line in &lines {
            self.keep(line);
        }
        (grown.unwrap_or(false) || !lines.is_empty()).then_some(lines)
    }

    /// Takes the line that has no end.
    pub(super) fn rest(&mut self) -> Option<String> {
        let rest = self.tail.rest()?;
        self.keep(&rest);
        Some(rest)
    }

    fn keep(&mut self, line: &str) {
        if line.starts_with("[ ERROR") || line.starts_with("[ CRITICAL") {
            self.errors.push(line);
        }
        self.last.push(line);
    }

    /// Whether there was no line yet.
    pub(super) fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// The last lines that tell of an error, or else the last lines.
    pub(super) fn errors_or_last_lines(&self) -> Vec<String> {
        if self.errors.is_empty() {
            self.last_lines()
        } else {
            self.errors.to_vec()
        }
    }

    /// The last lines.
    pub(super) fn last_lines(&self) -> Vec<String> {
        self.last.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_before_a_read_error_are_shown() {
        let mut log = BuildLog::new(Path::new("/nowhere/log"));
        let lines = vec![String::from("[ INFO    ]: Creating image")];
        let taken = log.take(
            Err(io::ErrorKind::StaleNetworkFileHandle.into()),
            lines.clone(),
        );
        assert_eq!(taken, Some(lines));
        assert_eq!(log.take(Ok(false), Vec::new()), None);
        assert_eq!(log.take(Ok(true), Vec::new()), Some(Vec::new()));
    }
}
