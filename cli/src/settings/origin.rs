//! Where a setting comes from.

use std::fmt;
use std::path::PathBuf;

use boxbuild_host::text::shown_path;
use serde::Serialize;

/// Where settings come from; one that is less than another counts before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layer {
    Environment,
    Project,
    User,
}

/// The place of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This variable.
    Variable(String),
    /// This line of a file.
    File {
        layer: Layer,
        path: PathBuf,
        line: usize,
    },
}

impl Origin {
    pub(crate) fn layer(&self) -> Layer {
        match self {
            Origin::Variable(_) => Layer::Environment,
            Origin::File { layer, .. } => *layer,
        }
    }

    /// The file, as it is shown.
    pub(crate) fn file(&self) -> Option<String> {
        match self {
            Origin::Variable(_) => None,
            Origin::File { path, .. } => Some(shown_path(path).to_string()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Variable(name) => f.write_str(name),
            Origin::File { path, line, .. } => write!(f, "{}:{line}", shown_path(path)),
        }
    }
}
