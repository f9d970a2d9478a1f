//! Batch files that cannot be used.

use std::io;
use std::path::PathBuf;

use boxbuild_host::error::{Classify, ErrorClass};

/// The batch file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error("cannot read the batch file {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: nothing was started:\n{}", .path.display(), .problems.join("\n"))]
    Refused {
        path: PathBuf,
        /// Every mistake.
        problems: Vec<String>,
        /// The worst class among them.
        class: ErrorClass,
    },
}

impl Classify for BatchError {
    fn class(&self) -> ErrorClass {
        match self {
            BatchError::Read { .. } => ErrorClass::Usage,
            BatchError::Refused { class, .. } => *class,
        }
    }
}
