//! Errors of the box store.

use std::path::PathBuf;

use boxbuild_host::error::{Classify, ErrorClass, IoError};

/// The store, or a box in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither environment variable names a folder for boxes.
    #[error("cannot tell where the boxes are: set HOME, or KIWI_BOXED_CACHE_DIR")]
    NoHome,
    /// The name cannot be that of a box.
    #[error(
        "'{0}' is not a valid box name: use lower-case letters, digits, '.', '_' and '-', beginning \
         with a letter or digit"
    )]
    BadName(String),
    /// There is no such box.
    #[error("there is no box '{name}' on this host{}", known(.boxes, .nearest))]
    Unknown {
        /// As typed.
        name: String,
        /// Names of the installed boxes.
        boxes: Vec<String>,
        /// The name that the user most likely meant.
        nearest: Option<String>,
    },
    /// The box's files are not what its description says.
    #[error(
        "the box '{name}' is damaged ({problem}): remove it with 'boxbuild box rm {name}' and create it again"
    )]
    Damaged {
        /// Name of the box.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// There is a box of that name.
    #[error("there is a box '{0}' already: use --force to replace it, or another name")]
    Exists(String),
    /// The box's folder exists and is not boxbuild's.
    #[error(
        "{0} is not a box of boxbuild (it may be the cache of kiwi-ng), and is not overwritten: use \
         another name for the box"
    )]
    Foreign(PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
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
            String::from("; create one with 'boxbuild box create NAME --from debian:trixie'")
        }
        (None, boxes) => format!("; boxes here: {}", boxes.join(", ")),
    }
}
