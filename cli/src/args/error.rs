//! Command lines that cannot become a request.

use boxbuild_core::build_args::BuildArgsError;
use boxbuild_host::error::{Classify, ErrorClass};

/// Words of a command line that cannot become a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgsError {
    /// There is no separator.
    #[error(
        "nothing to build: write -- and the build options behind it, e.g. \
         -- --description DIR --target-dir DIR"
    )]
    NoBuildArgs,
    /// Words behind the separator are wrong.
    #[error(transparent)]
    BuildArgs(#[from] BuildArgsError),
    /// An option of boxbuild or of kiwi-ng itself behind the separator.
    #[error(
        "{0} stands behind the separator, where only options of 'kiwi-ng system build' belong: \
         write it in front of it"
    )]
    Misplaced(String),
    /// An option that cannot be had in a box.
    #[error("{0}")]
    Impossible(String),
}

impl Classify for ArgsError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}
