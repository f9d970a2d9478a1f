//! Errors of the list of published boxes.

use std::path::PathBuf;

use boxbuild_host::error::{Classify, ErrorClass, IoError};

/// Environment variable with the path of the configuration file.
pub const VARIABLE: &str = "KIWI_BOXED_PLUGIN_CFG";

/// The list of published boxes cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// `$KIWI_BOXED_PLUGIN_CFG` names a file that is not there.
    #[error("{VARIABLE} names {0}, which does not exist: correct it, or unset it")]
    Missing(PathBuf),
    /// A configuration file cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A configuration file does not follow its schema.
    #[error("{path} is wrong: {problem}")]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
}

impl Classify for CatalogError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}
