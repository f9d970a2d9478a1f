//! Why a target folder cannot be used, or results cannot be published.

use std::path::{Path, PathBuf};

use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::stop::Stopped;
use boxbuild_host::text::shown_path;

use super::recorder::RecordError;

/// The target folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OutputDirError {
    /// Another build holds it.
    #[error("{} is in use by another build: wait for it, or choose another --target-dir", shown_path(.0))]
    InUse(PathBuf),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The build succeeded, but its results are not where they belong.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Classify for OutputDirError {
    fn class(&self) -> ErrorClass {
        match self {
            OutputDirError::Publish(PublishError::Stopped(Stopped::Interrupted)) => {
                ErrorClass::Interrupted
            }
            OutputDirError::Publish(PublishError::Record { source, .. }) => source.class(),
            _ => ErrorClass::Host,
        }
    }
}

/// The results of a build that succeeded cannot be published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The user, or the time limit of the build, ended it.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// No earlier build made what would have to be replaced.
    #[error(
        "{} was not made by an earlier build, and is not replaced; {}",
        list(.paths),
        advice(.rescued.as_deref())
    )]
    Conflict {
        /// What is in the way.
        paths: Vec<PathBuf>,
        /// The folder with all results.
        rescued: Option<PathBuf>,
    },
    /// There are more results than any build has.
    #[error(
        "the box left more than {most} files and folders as results: none is published; a build \
         that means it can pack them into an archive"
    )]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// A file operation failed.
    #[error("the results cannot be published; {}", advice(.rescued.as_deref()))]
    Io {
        /// The folder with the results, as far as they could be saved.
        rescued: Option<PathBuf>,
        /// What failed.
        #[source]
        source: IoError,
    },
    /// There is no record of them.
    #[error("the results have no record, and are not published; {}", advice(.rescued.as_deref()))]
    Record {
        /// The folder with the results, as far as they could be saved.
        rescued: Option<PathBuf>,
        /// What failed.
        #[source]
        source: RecordError,
    },
}

fn list(paths: &[PathBuf]) -> String {
    /// More do not help.
    const MOST: usize = 5;
    let mut words: Vec<String> = paths
        .iter()
        .take(MOST)
        .map(|path| shown_path(path))
        .collect();
    if paths.len() > MOST {
        words.push(format!("and {} more", paths.len() - MOST));
    }
    words.join(", ")
}

fn advice(folder: Option<&Path>) -> String {
    match folder {
        Some(folder) => format!(
            "the results are in {}: take them from there, or choose another --target-dir",
            shown_path(folder)
        ),
        None => String::from("choose another --target-dir and build again"),
    }
}
