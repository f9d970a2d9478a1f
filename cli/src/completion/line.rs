//! A command line, cut at the word that is completed.

use std::ffi::OsString;

/// A command line, cut at the word that is completed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The name of the program.
    pub(super) program: OsString,
    /// The words between it and the word.
    pub(super) before: Vec<OsString>,
    /// The word, as far as it is typed.
    pub(super) current: OsString,
    /// The words after it.
    pub(super) after: Vec<OsString>,
    /// The beginning of the word that the shell keeps by itself.
    pub(super) kept: String,
}

impl Line {
    /// The line of `words`, in which the one at `index` is completed, or else the last one.
    pub(super) fn new(words: &[OsString], index: usize) -> Line {
        let index = index.min(words.len().saturating_sub(1)).max(1);
        let mut words = words.iter().cloned();
        Line {
            program: words.next().unwrap_or_default(),
            before: words.by_ref().take(index - 1).collect(),
            current: words.next().unwrap_or_default(),
            after: words.collect(),
            kept: String::new(),
        }
    }
}
