//! Errors of making a box.

use std::io;
use std::process::ExitStatus;

use boxbuild_host::error::{ClassifiedError, Classify, ErrorClass, IoError};
use boxbuild_parsers::ParseError;

use crate::fetch::FetchError;
use crate::store::StoreError;

/// A box cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// An option is wrong or missing.
    #[error("{0}")]
    Usage(String),
    /// The host lacks something. The text says how to get it.
    #[error("{0}")]
    Host(String),
    /// The files that the box would be made of cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// A file that was fetched or named cannot be used.
    #[error("{context}")]
    Parse {
        /// Which file cannot be used for what.
        context: String,
        /// What is wrong with it.
        #[source]
        source: ParseError,
    },
    /// The box's files cannot be fetched.
    #[error("cannot fetch the box '{name}'")]
    Fetch {
        /// Name of the box.
        name: String,
        /// What happened.
        #[source]
        source: FetchError,
    },
    /// The store cannot take the box.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// An error of one source only.
    #[error(transparent)]
    Other(#[from] ClassifiedError),
}

impl Classify for SourceError {
    fn class(&self) -> ErrorClass {
        match self {
            SourceError::Usage(_) => ErrorClass::Usage,
            SourceError::Host(_) | SourceError::Unusable(_) => ErrorClass::Host,
            SourceError::Parse { source, .. } => source.class(),
            SourceError::Fetch { source, .. } => source.class(),
            SourceError::Store(error) => error.class(),
            SourceError::Command(error) => error.class(),
            SourceError::Io(error) => error.class(),
            SourceError::Other(error) => error.class(),
        }
    }
}

/// A program failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}):\n{}", .output.join("\n"))]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: ExitStatus,
        /// Its last lines.
        output: Vec<String>,
    },
    /// The user interrupted it.
    #[error("interrupted")]
    Interrupted,
}

impl Classify for CommandError {
    fn class(&self) -> ErrorClass {
        match self {
            CommandError::Interrupted => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}
