//! Settings that cannot be used.

use std::io;
use std::path::PathBuf;

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::text::{shown, shown_path};

use super::origin::Origin;

/// What is wrong with a setting, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) origin: Origin,
    pub(crate) message: String,
}

/// Settings cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// A settings file is there and cannot be read.
    #[error("cannot read the settings in {}; --no-config leaves settings files out", shown_path(.path))]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another user may have written a settings file.
    #[error("{}: {problem}; --no-config leaves settings files out", shown_path(.path))]
    Untrusted { path: PathBuf, problem: String },
    /// What is in them is wrong.
    #[error("{}", list(.0))]
    Wrong(Vec<Wrong>),
}

/// One line for each, as compilers write them.
fn list(wrong: &[Wrong]) -> String {
    // Keys and values are the file's, also in what clap says of them.
    let lines = wrong
        .iter()
        .map(|wrong| format!("{}: {}", wrong.origin, shown(&wrong.message)));
    lines.collect::<Vec<_>>().join("\n")
}

impl Classify for SettingsError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}
