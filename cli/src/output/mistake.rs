//! A mistake in a file that the user wrote.

use serde::Serialize;

/// A mistake, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Mistake {
    /// The line of the file, from 1, if it is of one.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to do.
    pub(crate) message: String,
}
