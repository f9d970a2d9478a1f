//! Why a job could not be started.

use boxbuild_host::error::{Classify, ErrorClass};
use std::path::PathBuf;

use crate::podman::ContainerError;
use crate::unusable::Unusable;

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
        /// The image, as it was opened.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The host's processor cannot address that much memory for a guest.
    #[error("--box-memory is more than this host can give a virtual machine")]
    Memory(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The machine cannot be put together.
    #[error("cannot set up the virtual machine")]
    Machine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The container cannot be started.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// A share cannot be served.
    #[error("cannot share the folder {path}")]
    Share {
        /// The folder on the host.
        path: PathBuf,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Classify for StartError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}
