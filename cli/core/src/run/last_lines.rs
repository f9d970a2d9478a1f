//! The last lines of a stream, for the report of a failure.

use std::collections::VecDeque;

/// The last lines of a stream that are not blank.
#[derive(Debug, Default)]
pub(super) struct LastLines {
    lines: VecDeque<String>,
    most: usize,
}

impl LastLines {
    /// Keeps at most `most` lines.
    pub(super) fn new(most: usize) -> LastLines {
        LastLines {
            lines: VecDeque::new(),
            most,
        }
    }

    /// Takes a line.
    pub(super) fn push(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.lines.len() == self.most {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The lines, in order.
    pub(super) fn to_vec(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
