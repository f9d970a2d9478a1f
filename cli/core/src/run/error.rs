//! Why a build could not be started.

use std::io;
use std::path::PathBuf;

use boxbuild_boxes::box_lock::BoxLockError;
use boxbuild_boxes::in_place::InPlaceError;
use boxbuild_engine::StartError;
use boxbuild_engine::podman::ContainerError;
use boxbuild_firmware::cmdline::CmdlineError;
use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::text::shown_path;

use crate::output_dir::OutputDirError;
use crate::ssh::PortError;

/// The build could not be started.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The box's disk is in use.
    #[error(transparent)]
    BoxLock(#[from] BoxLockError),
    /// The box's disk cannot be written.
    #[error(transparent)]
    InPlace(#[from] InPlaceError),
    /// The port that leads into the box cannot be taken.
    #[error(transparent)]
    Port(#[from] PortError),
    /// The target directory cannot be used.
    #[error(transparent)]
    OutputDir(#[from] OutputDirError),
    /// A guest, or another process, has put something else in the place of a folder.
    #[error(
        "{} was replaced while the box was booted, and the build is not tried again with what is there \
         now: check it, and build again",
        shown_path(.0)
    )]
    Replaced(PathBuf),
    /// A folder cannot be read.
    #[error(transparent)]
    Folder(IoError),
    /// A container cannot be shown a part of the target folder.
    #[error(
        "{} lies in the description and has more than {most} entries, too many to keep apart from the \
         results in a container: choose another --target-dir",
        shown_path(.path)
    )]
    TooFull {
        /// The target folder.
        path: PathBuf,
        /// The most that there may be.
        most: usize,
    },
    /// A container cannot be told of a file in the description.
    #[error("{0}")]
    Unsayable(String),
    /// The kernel command line cannot carry what the box is to be told.
    #[error("the box cannot be told what to build")]
    Cmdline(#[from] CmdlineError),
    /// The initial ramdisk cannot be put together.
    #[error("cannot put together the initial ramdisk from {path}")]
    Initrd {
        /// The box's own one.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// A file that a build argument names cannot be read.
    #[error("cannot read {path}, which a build option names")]
    HostFile {
        /// The file, as the option names it.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// The engine cannot start the machine.
    #[error("cannot start the virtual machine")]
    Machine(#[source] StartError),
    /// podman cannot start the container.
    #[error("cannot start the container")]
    Container(#[source] ContainerError),
}

impl From<StartError> for BuildError {
    fn from(error: StartError) -> BuildError {
        match error {
            StartError::Container(error) => BuildError::Container(error),
            error => BuildError::Machine(error),
        }
    }
}

impl Classify for BuildError {
    fn class(&self) -> ErrorClass {
        match self {
            BuildError::OutputDir(error) => error.class(),
            BuildError::TooFull { .. } | BuildError::Unsayable(_) => ErrorClass::Usage,
            BuildError::InPlace(error) => error.class(),
            _ => ErrorClass::Host,
        }
    }
}
