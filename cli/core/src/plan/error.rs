//! Why there is no plan.

use boxbuild_host::error::{Classify, ErrorClass};
use std::path::PathBuf;

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The description cannot be used.
    #[error("--description {path}: {problem}")]
    Description {
        /// The folder, as typed.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// kiwi would refuse the description: files, lines, and what is wrong there.
    #[error("{0}")]
    Content(String),
    /// The target directory cannot be used.
    #[error("--target-dir {path}: {problem}")]
    Target {
        /// The folder, as typed.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The file system of the target folder is full.
    #[error("--target-dir {path}: {problem}")]
    Full {
        /// The folder, as typed.
        path: PathBuf,
        /// What is full.
        problem: String,
    },
    /// An option's value is wrong or cannot be had with this box.
    #[error("{0}")]
    Option(String),
}

impl Classify for PlanError {
    fn class(&self) -> ErrorClass {
        match self {
            // The same disk, full an hour later, ends a build so.
            PlanError::Full { .. } => ErrorClass::Host,
            PlanError::Description { .. }
            | PlanError::Content(_)
            | PlanError::Target { .. }
            | PlanError::Option(_) => ErrorClass::Usage,
        }
    }
}
