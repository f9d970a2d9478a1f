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
    found: BTreeSet<Mistake>,
    /// How often one was added.
    added: usize,
    /// The worst class among them.
    class: ErrorClass,
}

impl<'a> Mistakes<'a> {
    /// Collects mistakes in the file `text`.
    pub(super) fn of(text: &'a str) -> Mistakes<'a> {
        Mistakes {
            text,
            found: BTreeSet::new(),
            added: 0,
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
        if self.found.len() < MOST {
            self.found.insert(Mistake {
                line,
                message: message.into(),
            });
        }
    }

    /// How often one was added.
    pub(super) fn count(&self) -> usize {
        self.added
    }

    /// Returns the number of the line, from 1, that a span begins in.
    pub(super) fn line_of(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        1 + before.iter().filter(|byte| **byte == b'\n').count()
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
        (self.found.into_iter().collect(), self.class)
    }
}
