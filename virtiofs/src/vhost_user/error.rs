//! Errors of starting a server.

use std::io;

use boxbuild_jail::seccomp::FilterError;

use crate::confine::ConfineError;
use crate::passthrough::ShareError;

/// A share cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be shared.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The serving thread cannot be confined.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The serving threads cannot have their filters of system calls.
    #[error("cannot confine the serving threads: {0}")]
    Filter(#[from] FilterError),
    /// A socket, thread or event cannot be created.
    #[error("cannot {action}: {source}")]
    Io {
        /// What failed, to be read after "cannot".
        action: &'static str,
        /// The kernel's error.
        source: io::Error,
    },
    /// The vhost-user connection cannot be set up.
    #[error("cannot serve vhost-user: {0}")]
    Protocol(String),
}

impl StartError {
    /// Returns a function that adds what failed to an I/O error.
    pub(super) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

impl From<vhost_user_backend::Error> for StartError {
    fn from(error: vhost_user_backend::Error) -> Self {
        Self::Protocol(error.to_string())
    }
}
