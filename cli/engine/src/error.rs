//! Why nothing can be run.

use boxbuild_host::error::{Classify, ErrorClass};
use std::path::PathBuf;

/// An engine cannot be used on this host; the text says why and what would help.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

impl Classify for Unusable {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

/// The machine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`Unusable`].
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A host file, process or limit is in the way.
    #[error("cannot {action}")]
    Host {
        /// What was tried, with the file or program it was tried on.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The root disk cannot be used.
    #[error("cannot use the disk {path}")]
    Disk {
        /// The image.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The machine cannot be put together.
    #[error("cannot put the virtual machine together")]
    Machine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A share cannot be served.
    #[error("cannot share the folder {path}")]
    Share {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Classify for StartError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}
