//! kiwi's log, as it grows.

use std::ffi::OsStr;
use std::io;

use boxbuild_host::units::size;
use boxbuild_host::untrusted::Dir;
use boxbuild_protocol::paths::LOG_NAME;

use super::last_lines::LastLines;
use crate::kiwi_log::{Gained, Tail};

/// Lines that are kept for the report of a failure.
const LAST_LINES: usize = 12;

/// Looks at the end of a log, at most, should something still write into it.
const MOST_LOOKS: usize = 32;

/// kiwi's log, as it grows.
#[derive(Debug, Default)]
pub(super) struct BuildLog {
    tail: Option<Tail>,
    last: LastLines,
    errors: LastLines,
}

impl BuildLog {
    /// The log in the folder `share` of the guest's; `None` if there is none.
    pub(super) fn new(share: Option<Dir>) -> BuildLog {
        BuildLog {
            tail: share.map(|share| Tail::new(share, OsStr::new(LOG_NAME))),
            last: LastLines::new(LAST_LINES),
            errors: LastLines::new(LAST_LINES),
        }
    }

    /// Takes a piece of what the log has gained, and calls `show` for each line. A log that cannot be
    /// read does not end a build; its end decides.
    pub(super) fn poll(&mut self, show: impl FnMut(&str)) -> Gained {
        self.read(|tail, line| tail.poll(line), show)
    }

    /// Takes what came last.
    pub(super) fn end(&mut self, mut show: impl FnMut(&str)) {
        for _ in 0..MOST_LOOKS {
            if !self.read(|tail, line| tail.poll_end(line), &mut show).more {
                break;
            }
        }
        let Some(tail) = &mut self.tail else { return };
        if let Some(rest) = tail.rest() {
            self.keep(&rest);
            show(&rest);
        }
    }

    fn read<F: FnMut(&str)>(
        &mut self,
        read: impl FnOnce(&mut Tail, &mut dyn FnMut(&str)) -> io::Result<Gained>,
        mut show: F,
    ) -> Gained {
        let Some(mut tail) = self.tail.take() else {
            return Gained::default();
        };
        let mut any = false;
        let gained = read(&mut tail, &mut |line| {
            any = true;
            self.keep(line);
            show(line);
        });
        self.tail = Some(tail);
        let mut gained = gained.unwrap_or_default();
        // Lines before an error count.
        gained.grown |= any;
        if gained.skipped > 0 {
            let text = format!(
                "boxbuild: {} of the log are not shown",
                size(gained.skipped)
            );
            show(&text);
        }
        gained
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
        let dir = tempfile::tempdir().unwrap();
        let mut log = BuildLog::new(Some(Dir::open(dir.path()).unwrap()));
        let mut shown = Vec::new();
        let gained = log.read(
            |_, line| {
                line("[ INFO    ]: Creating image");
                Err(io::ErrorKind::StaleNetworkFileHandle.into())
            },
            |line| shown.push(line.to_owned()),
        );
        assert!(gained.grown);
        assert_eq!(shown, ["[ INFO    ]: Creating image"]);
        assert!(!log.poll(|_| unreachable!()).grown);
    }

    #[test]
    fn a_hole_in_the_log_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join(LOG_NAME)).unwrap();
        file.set_len(1 << 40).unwrap();
        let mut log = BuildLog::new(Some(Dir::open(dir.path()).unwrap()));
        let mut shown = Vec::new();
        log.end(|line| shown.push(line.to_owned()));
        assert!(
            shown.iter().any(|line| line.contains("are not shown")),
            "{shown:?}"
        );
    }
}
