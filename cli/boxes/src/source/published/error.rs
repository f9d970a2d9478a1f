//! Errors of published boxes.

use boxbuild_host::arch::Arch;
use boxbuild_host::error::{Classify, ErrorClass, IoError};

use crate::catalog::{CatalogError, RepositoryError};
use crate::lock_file::LockError;
use crate::source::error::SourceError;
use crate::store::StoreError;

/// A published box cannot be used, fetched or updated.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The store, or the box in it, cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list of published boxes cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The box is published at an address of an unknown kind.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The box is not the one in the lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The box cannot be fetched or installed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is no such box, neither installed nor published.
    #[error("there is no box '{name}'{}", hint(.name, .known, .nearest, .release))]
    Unknown {
        /// As typed.
        name: String,
        /// Names of installed and published boxes.
        known: Vec<String>,
        /// The name that the user most likely meant.
        nearest: Option<String>,
        /// The release that it can be made from, if its name tells.
        release: Option<String>,
    },
    /// The box is not published for this architecture.
    #[error("the box '{name}' is not published for {arch}, but for {}", names(.arches))]
    Arch {
        /// Name of the box.
        name: String,
        /// The architecture that was asked for.
        arch: Arch,
        /// The architectures that it is published for.
        arches: Vec<Arch>,
    },
    /// The box would have to be fetched.
    #[error(
        "the box '{0}' is not on this host, and --offline fetches nothing: run 'boxbuild box \
         pull {0}' where there is a network"
    )]
    Offline(String),
    /// The list in the working folder would replace a box that came from elsewhere.
    #[error(
        "the box '{name}' on this host comes from {installed}, and {file} in this folder would \
         replace it by one from {listed}: if that is what you want, name the file with \
         KIWI_BOXED_PLUGIN_CFG"
    )]
    Hijack {
        /// Name of the box.
        name: String,
        /// The repository that the installed box came from.
        installed: String,
        /// The list's file.
        file: String,
        /// The repository in the list.
        listed: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl Classify for PullError {
    fn class(&self) -> ErrorClass {
        match self {
            PullError::Unknown { .. } | PullError::Arch { .. } | PullError::Hijack { .. } => {
                ErrorClass::Usage
            }
            // As without a network.
            PullError::Offline(_) => ErrorClass::Host,
            PullError::Store(error) => error.class(),
            PullError::Catalog(error) => error.class(),
            PullError::Repository(error) => error.class(),
            PullError::Lock(error) => error.class(),
            PullError::Source(error) => error.class(),
            PullError::Io(error) => error.class(),
        }
    }
}

fn hint(
    name: &str,
    known: &[String],
    nearest: &Option<String>,
    release: &Option<String>,
) -> String {
    let known = known.join(", ");
    match (nearest, release) {
        (Some(nearest), _) => format!("; did you mean '{nearest}'? Known boxes: {known}"),
        (None, Some(release)) => format!(
            " yet: create it with\n    boxbuild box create {name} --from {release}\nor name a box \
             that is here or published: {known}"
        ),
        (None, None) => format!(
            "; known boxes: {known}. 'boxbuild box create' and 'boxbuild box import' add others"
        ),
    }
}

fn names(arches: &[Arch]) -> String {
    let names: Vec<_> = arches.iter().map(|arch| arch.name()).collect();
    names.join(", ")
}
