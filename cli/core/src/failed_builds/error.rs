//! Why failed builds cannot be used.

use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::stop::Stopped;

/// Kept builds cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FailedBuildError {
    /// There is no build of that name.
    #[error("there is no kept build '{id}'{}", suggestion(.known, .nearest))]
    Unknown {
        /// The name, as typed.
        id: String,
        /// Names of the builds that are kept.
        known: Vec<String>,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// No build is kept.
    #[error("no failed build is kept on this host")]
    Nothing,
    /// It cannot be used.
    #[error("the kept build '{id}' cannot be used: {problem}; remove it with: boxbuild prune {id}")]
    Damaged {
        /// Name of the build.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// `boxbuild shell` runs in it, or another build goes on with it.
    #[error(
        "the kept build '{0}' is in use by 'boxbuild shell' or 'boxbuild resume': end that first"
    )]
    InUse(String),
    /// Another build goes on with it.
    #[error("the kept build '{0}' is being resumed by another boxbuild: wait for that, or stop it")]
    Resumed(String),
    /// No build can go on with it.
    #[error("the kept build '{id}' cannot be resumed: {reason}; build again")]
    NotResumable {
        /// Name of the build.
        id: String,
        /// Why, in words.
        reason: String,
    },
    /// The user interrupted the comparison of a description with what it was.
    #[error("the description is compared with what it was: {0}")]
    Stopped(#[from] Stopped),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Classify for FailedBuildError {
    fn class(&self) -> ErrorClass {
        match self {
            FailedBuildError::Unknown { .. }
            | FailedBuildError::Nothing
            | FailedBuildError::NotResumable { .. } => ErrorClass::Usage,
            FailedBuildError::Stopped(_) => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}

fn suggestion(known: &[String], nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean '{nearest}'?"),
        None => format!("; kept builds: {}", known.join(", ")),
    }
}
