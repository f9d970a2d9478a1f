//! Batch files that cannot be used.

use std::io;
use std::path::{Path, PathBuf};

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::text::shown_path;

use crate::output::mistake::Mistake;

/// The batch file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error("cannot read the batch file {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}: nothing was started{}", shown_path(.path), list(.path, .mistakes))]
    Refused {
        path: PathBuf,
        /// Every mistake.
        mistakes: Vec<Mistake>,
        /// The worst class among them.
        class: ErrorClass,
    },
    #[error("the runner {runner} cannot be used: {problem}; nothing was started")]
    Runner { runner: String, problem: String },
}

/// The mistakes, a line each, as compilers write them.
fn list(path: &Path, mistakes: &[Mistake]) -> String {
    let path = shown_path(path);
    let lines = mistakes.iter().map(|mistake| {
        let line = mistake
            .line
            .map_or_else(String::new, |line| format!(":{line}"));
        format!("\n{path}{line}: {}", mistake.message)
    });
    lines.collect()
}

impl Classify for BatchError {
    fn class(&self) -> ErrorClass {
        match self {
            BatchError::Read { .. } => ErrorClass::Usage,
            BatchError::Refused { class, .. } => *class,
            BatchError::Runner { .. } => ErrorClass::Host,
        }
    }
}

impl BatchError {
    /// The mistakes in the batch file.
    pub(super) fn mistakes(&self) -> &[Mistake] {
        match self {
            BatchError::Read { .. } | BatchError::Runner { .. } => &[],
            BatchError::Refused { mistakes, .. } => mistakes,
        }
    }
}
