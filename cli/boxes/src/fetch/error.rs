//! Errors of fetching a file.

use std::path::PathBuf;

use boxbuild_host::error::{Classify, ErrorClass, IoError};

use super::checksum::{Checksum, ChecksumError};
use super::signature::SignatureError;

/// A file cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The file does not exist.
    #[error("{location} is not there ({answer})")]
    NotFound {
        /// Address or path of the file.
        location: String,
        /// The answer, and the server if it was redirected.
        answer: String,
    },
    /// The server refuses the request.
    #[error("{location}: the server answered {answer}")]
    Refused {
        /// Address or path of the file.
        location: String,
        /// The answer, and the server if it was redirected.
        answer: String,
    },
    /// The network or the server failed in every attempt.
    #[error("cannot fetch {location}: {problem} (after {attempts} attempts without progress)")]
    Network {
        /// Address or path of the file.
        location: String,
        /// The last failure.
        problem: String,
        /// Attempts without progress.
        attempts: u32,
    },
    /// The content does not match the published checksum.
    #[error("{location} has the wrong checksum: {found} instead of {expected}")]
    Mismatch {
        /// Address or path of the file.
        location: String,
        /// The published checksum.
        expected: Checksum,
        /// The checksum of the content.
        found: Checksum,
    },
    /// A checksum file has no usable checksum.
    #[error("the checksum file {location} cannot be used: {source}")]
    Checksum {
        /// Address or path of the checksum file.
        location: String,
        /// What is wrong with it.
        #[source]
        source: ChecksumError,
    },
    /// A signature is missing or bad.
    #[error("the checksum file {location} is not trusted: {source}")]
    Signature {
        /// Address or path of the checksum file.
        location: String,
        /// What is wrong with it.
        #[source]
        source: SignatureError,
    },
    /// The file system is full.
    #[error(
        "the file system of {folder} has {free} MiB of free space, and {needed} MiB more are to be \
         fetched: free some, or set KIWI_BOXED_CACHE_DIR to a folder on another one"
    )]
    Space {
        /// The folder that files are fetched to.
        folder: PathBuf,
        /// Free space in MiB.
        free: u64,
        /// MiB that are to be fetched.
        needed: u64,
    },
    /// The file system became full.
    #[error(
        "the file system of {0} is full, but for a reserve: free some space, or set \
         KIWI_BOXED_CACHE_DIR to a folder on another one"
    )]
    Full(PathBuf),
    /// A file is longer than any that is known.
    #[error("{path} has more than {most} GiB, which no file of a box has")]
    TooLong {
        /// The file that it was written to.
        path: PathBuf,
        /// The limit in GiB.
        most: u64,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
    /// The user interrupted it.
    #[error("interrupted; what was fetched is kept, and the next attempt continues from there")]
    Interrupted,
}

impl FetchError {
    /// Whether the fault may be that of a mirror, so that the publisher's own server may have the
    /// right file.
    pub fn may_be_a_mirrors(&self) -> bool {
        matches!(
            self,
            FetchError::NotFound { .. } | FetchError::Mismatch { .. } | FetchError::Checksum { .. }
        )
    }
}

impl Classify for FetchError {
    fn class(&self) -> ErrorClass {
        match self {
            FetchError::Interrupted => ErrorClass::Interrupted,
            _ => ErrorClass::Host,
        }
    }
}
