//! Why the history cannot be read.

use boxbuild_host::error::{Classify, ErrorClass, IoError};

/// The history cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The user has no home folder.
    #[error("no folder for the history of builds is known: set HOME or XDG_STATE_HOME")]
    NoHome,
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Classify for HistoryError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}
