//! Errors of command lines that clap accepts.

use boxbuild_core::build_args::BuildArgsError;
use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_provenance::sign::SignError;

/// The options of a build are wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgsError {
    /// There is no `--`.
    #[error(
        "nothing to build: put -- and the build options at the end, e.g. \
         -- --description DIR --target-dir DIR"
    )]
    NoBuildArgs,
    /// Options after `--` are wrong.
    #[error(transparent)]
    BuildArgs(#[from] BuildArgsError),
    /// An option of boxbuild or of kiwi-ng itself is after `--`.
    #[error("{0} is not an option of 'kiwi-ng system build': put it before --")]
    Misplaced(String),
    /// An option asks for something that is not possible in a box.
    #[error("{0}")]
    Impossible(String),
    /// A key cannot sign.
    #[error(transparent)]
    Sign(#[from] SignError),
}

impl Classify for ArgsError {
    fn class(&self) -> ErrorClass {
        match self {
            ArgsError::Sign(error) => error.class(),
            _ => ErrorClass::Usage,
        }
    }
}
