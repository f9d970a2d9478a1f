//! What an inspection of a description finds.

use std::fmt;

use boxbuild_host::{secret, text};
use serde::Serialize;

use crate::element::Place;

/// Longest text of a finding, in bytes: it may quote a name, or list them all.
const LONGEST: usize = 2_000;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The build runs, or may run.
    Note,
    /// No build comes of it.
    Error,
}

/// Something about a description that its author should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The file, as the user knows it.
    pub file: String,
    /// The line, from 1, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// What is wrong and what to do, fit for a terminal.
    pub text: String,
}

impl Finding {
    /// An error at `place`.
    pub fn error(place: &Place, text: impl AsRef<str>) -> Finding {
        Finding::new(Severity::Error, place, text.as_ref())
    }

    /// A note about `place`.
    pub fn note(place: &Place, text: impl AsRef<str>) -> Finding {
        Finding::new(Severity::Note, place, text.as_ref())
    }

    /// A finding; what is harmful to a terminal in `words` is escaped, secrets are hidden, and what is
    /// too long is cut.
    pub(crate) fn new(severity: Severity, place: &Place, words: &str) -> Finding {
        let words = secret::redact(words);
        let end = words.floor_char_boundary(LONGEST);
        let (words, rest) = words.split_at(end);
        let dots = if rest.is_empty() { "" } else { "…" };
        Finding {
            severity,
            file: text::shown(&place.file).into_owned(),
            line: (place.line > 0).then_some(place.line),
            text: format!("{}{dots}", text::shown(words)),
        }
    }

    /// Returns whether no build comes of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.text),
            None => write!(f, "{}: {}", self.file, self.text),
        }
    }
}
