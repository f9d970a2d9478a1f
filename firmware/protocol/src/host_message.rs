//! Messages of the host on the control port, one line each.

use std::fmt;
use std::time::Duration;

use crate::line::PREFIX;

/// Length that no message exceeds, in bytes without the line feed. A reader may drop what is longer.
pub const MAX_LENGTH: usize = 256;

/// Nanoseconds of a second.
const SECOND: u32 = 1_000_000_000;

/// A message to the guest. [`Display`](fmt::Display) writes the line without its line feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostMessage {
    /// `size COLUMNS ROWS`: the size of the terminal behind the console, in characters.
    TerminalSize {
        /// Characters in a row.
        columns: u16,
        /// Rows.
        rows: u16,
    },
    /// `time SECONDS NANOSECONDS`: the host's time now, since the epoch.
    Time(Duration),
    /// `checkpoint kept|refused`: the answer to [`Report::CheckpointWanted`](crate::report::Report). The
    /// guest may write to its disk again.
    Checkpoint {
        /// The disk can be had again as it was.
        kept: bool,
    },
}

impl HostMessage {
    /// Reads a line without its line feed. `None` for one that this version does not know.
    pub fn parse(line: &[u8]) -> Option<HostMessage> {
        let text = std::str::from_utf8(line).ok()?.strip_prefix(PREFIX)?;
        let mut words = text.split_ascii_whitespace();
        match (words.next()?, words.next(), words.next()) {
            ("size", Some(columns), Some(rows)) => Some(HostMessage::TerminalSize {
                columns: columns.parse().ok()?,
                rows: rows.parse().ok()?,
            }),
            ("time", Some(seconds), Some(nanoseconds)) => {
                let nanoseconds = nanoseconds.parse().ok().filter(|count| *count < SECOND)?;
                let time = Duration::new(seconds.parse().ok()?, nanoseconds);
                Some(HostMessage::Time(time))
            }
            ("checkpoint", Some("kept"), None) => Some(HostMessage::Checkpoint { kept: true }),
            ("checkpoint", Some("refused"), None) => Some(HostMessage::Checkpoint { kept: false }),
            _ => None,
        }
    }
}

impl fmt::Display for HostMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostMessage::TerminalSize { columns, rows } => {
                write!(f, "{PREFIX}size {columns} {rows}")
            }
            HostMessage::Time(time) => {
                write!(f, "{PREFIX}time {} {}", time.as_secs(), time.subsec_nanos())
            }
            HostMessage::Checkpoint { kept: true } => write!(f, "{PREFIX}checkpoint kept"),
            HostMessage::Checkpoint { kept: false } => write!(f, "{PREFIX}checkpoint refused"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_terminal_size_is_columns_and_rows() {
        let size = HostMessage::TerminalSize {
            columns: 100,
            rows: 30,
        };
        assert_eq!(size.to_string(), "boxbuild 1 size 100 30");
        for other in ["", "boxbuild 1 size 100", "boxbuild 1 size 1 70000", "x"] {
            assert_eq!(HostMessage::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_time_is_seconds_and_nanoseconds() {
        let time = HostMessage::Time(Duration::from_millis(1_700_000_000_250));
        assert_eq!(time.to_string(), "boxbuild 1 time 1700000000 250000000");
        for other in [
            "boxbuild 1 time 1",
            "boxbuild 1 time 1 1000000000",
            "boxbuild 1 time -1 0",
        ] {
            assert_eq!(HostMessage::parse(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(columns: u16, rows: u16, seconds: u64, nanoseconds in 0..SECOND) {
            let size = HostMessage::TerminalSize { columns, rows };
            let time = HostMessage::Time(Duration::new(seconds, nanoseconds));
            let [kept, refused] = [true, false].map(|kept| HostMessage::Checkpoint { kept });
            for message in [size, time, kept, refused] {
                let line = message.to_string();
                prop_assert!(line.len() <= MAX_LENGTH);
                prop_assert_eq!(HostMessage::parse(line.as_bytes()), Some(message));
            }
        }

        #[test]
        fn any_bytes_are_survived(line: Vec<u8>) {
            HostMessage::parse(&line);
        }
    }
}
