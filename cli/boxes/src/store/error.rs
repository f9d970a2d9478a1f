//! What can be wrong with the store.

use boxbuild_host::error::{Classify, ErrorClass};
use std::io;
use std::path::{Path, PathBuf};

/// Something is wrong with the store or a box in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither variable says where boxes are.
    #[error("cannot tell where the boxes are: set HOME, or KIWI_BOXED_CACHE_DIR")]
    NoHome,
    /// Not a name for a box.
    #[error(
        "'{0}' is no name for a box: use lower-case letters, digits, '.', '_' and '-', beginning \
         with a letter or digit"
    )]
    BadName(String),
    /// No such box.
    #[error("there is no box '{name}' on this machine{}", known(.boxes, .nearest))]
    Unknown {
        /// As typed.
        name: String,
        /// The boxes there are.
        boxes: Vec<String>,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// A box that cannot be used.
    #[error(
        "the box '{name}' is damaged ({problem}): remove it with 'boxbuild box rm {name}' and make it again"
    )]
    Damaged {
        /// Name of the box.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The box exists already.
    #[error("there is a box '{0}' already: use --force to replace it, or another name")]
    Exists(String),
    /// The place belongs to something else.
    #[error(
        "{0} is no box of boxbuild (it may be the cache of kiwi-ng), and is not overwritten: use \
         another name for the box"
    )]
    Foreign(PathBuf),
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Classify for StoreError {
    fn class(&self) -> ErrorClass {
        match self {
            StoreError::Unknown { .. } | StoreError::BadName(_) | StoreError::Exists(_) => {
                ErrorClass::Usage
            }
            _ => ErrorClass::Host,
        }
    }
}

fn known(boxes: &[String], nearest: &Option<String>) -> String {
    match (nearest, boxes) {
        (Some(nearest), _) => format!("; did you mean '{nearest}'?"),
        (None, []) => {
            String::from("; make one with 'boxbuild box create NAME --from debian:trixie'")
        }
        (None, boxes) => format!("; there are: {}", boxes.join(", ")),
    }
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
