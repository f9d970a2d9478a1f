//! Why an image cannot be started.

use std::io;
use std::path::PathBuf;

use boxbuild_engine::podman::ContainerError;
use boxbuild_engine::qemu::image::ImageError;
use boxbuild_engine::{StartError, Unusable};
use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_parsers::ParseError;

/// An image cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An option is wrong, or does not fit the image.
    #[error("{0}")]
    Option(String),
    /// A file that the user named cannot be read.
    #[error("cannot read {0}")]
    Read(PathBuf, #[source] io::Error),
    /// It is nothing that can be started.
    #[error("{0}: {1}")]
    NotBootable(PathBuf, String),
    /// The image is damaged.
    #[error("{0} cannot be used")]
    Image(PathBuf, #[source] ImageError),
    /// What is in it cannot be read.
    #[error("{0} cannot be used")]
    Parse(PathBuf, #[source] ParseError),
    /// A folder has no image.
    #[error("{0}")]
    Folder(String),
    /// A part of the host is missing.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The machine cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// No container can be started.
    #[error(transparent)]
    Container(ContainerError),
    /// The host is in the way.
    #[error("cannot {0}")]
    Host(String, #[source] io::Error),
    /// The engine failed.
    #[error("the engine failed: {0}")]
    Engine(String),
}

impl Classify for RunError {
    fn class(&self) -> ErrorClass {
        match self {
            RunError::Option(_)
            | RunError::Read(..)
            | RunError::NotBootable(..)
            | RunError::Folder(_) => ErrorClass::Usage,
            RunError::Image(_, error) => match error {
                ImageError::NamesFile(_) | ImageError::Damaged(..) => ErrorClass::Usage,
                ImageError::Interrupted => ErrorClass::Interrupted,
                _ => ErrorClass::Host,
            },
            RunError::Parse(_, error) => match error {
                ParseError::Refused(_) | ParseError::Limit(_) => ErrorClass::Usage,
                other => other.class(),
            },
            RunError::Container(error) => error.class(),
            RunError::Unusable(_)
            | RunError::Start(_)
            | RunError::Host(..)
            | RunError::Engine(_) => ErrorClass::Host,
        }
    }
}
