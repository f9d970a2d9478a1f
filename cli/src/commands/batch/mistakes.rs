//! Mistakes in a batch file, collected so that all are told at once.

use std::collections::BTreeSet;
use std::ops::Range;

use boxbuild_host::error::ErrorClass;

use crate::output::mistake::Mistake;

/// Mistakes that are told at most: a user reads no more.
const MOST: usize = 200;

/// Collects the mistakes in a file.
#[derive(Debug)]
pub(super) struct Mistakes<'a> {
    text: &'a str,
    /// Where its lines end.
    ends: Vec<usize>,
    found: BTreeSet<Mistake>,
    /// How often one was added.
    added: usize,
    /// How many are beyond [`MOST`].
    untold: usize,
    /// The worst class among them.
    class: ErrorClass,
}

impl<'a> Mistakes<'a> {
    /// Collects mistakes in the file `text`.
    pub(super) fn of(text: &'a str) -> Mistakes<'a> {
        Mistakes {
            text,
            ends: text.match_indices('\n').map(|(at, _)| at).collect(),
            found: BTreeSet::new(),
            added: 0,
            untold: 0,
            class: ErrorClass::Usage,
        }
    }

    /// Adds one that begins at `span`. The same one again, of another build, is the same.
    pub(super) fn add(&mut self, span: &Range<usize>, message: impl Into<String>) {
        self.add_at(Some(self.line_of(span)), message);
    }

    /// Adds one of a line, or of the file as a whole.
    pub(super) fn add_at(&mut self, line: Option<usize>, message: impl Into<String>) {
        self.added += 1;
        let mistake = Mistake {
            line,
            message: message.into(),
        };
        if self.found.len() < MOST || self.found.contains(&mistake) {
            self.found.insert(mistake);
        } else {
            self.untold += 1;
        }
    }

    /// How often one was added.
    pub(super) fn count(&self) -> usize {
        self.added
    }

    /// Returns the number of the line, from 1, that a span begins in.
    pub(super) fn line_of(&self, span: &Range<usize>) -> usize {
        let start = span.start.min(self.text.len());
        1 + self.ends.partition_point(|end| *end < start)
    }

    /// One of them is a problem of the host or of a box.
    pub(super) fn of_host(&mut self) {
        self.class = ErrorClass::Host;
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Returns all, by their lines, and the worst class among them.
    pub(super) fn into_list(self) -> (Vec<Mistake>, ErrorClass) {
        let mut list: Vec<Mistake> = self.found.into_iter().collect();
        if self.untold > 0 {
            list.push(Mistake {
                line: None,
                message: format!("{} more mistakes", self.untold),
            });
        }
        (list, self.class)
    }
}
