//! Fetching the files of a published box: resumable, checked, and each byte read once.
//!
//! A file grows as `NAME.part` in a folder that survives a killed process; beside it stands what
//! is known of the server's copy (`NAME.part.json`), so that the next attempt goes on where this
//! one ended. While bytes arrive they are written, hashed, and, for the archive with the kernel,
//! unpacked. Nothing here becomes part of a box before its checksum is right.

mod checksum;
mod download;
mod http;
mod meter;
mod mirror;
mod signature;
mod unpack;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use checksum::{Algorithm, Checksum, ChecksumError};
pub use download::{Fetched, Job, fetch};
pub use http::Client;
pub use meter::Meter;
pub use mirror::{Route, checksum};
pub use signature::{Key, SignatureError, VARIABLE as KEY_VARIABLE};
pub use unpack::{Destination, Member, UnpackError, Unpacked, unpack_file};

/// How patient a fetch is.
#[derive(Debug, Clone)]
pub struct Patience {
    /// A connection that brings nothing for this time is given up.
    pub stall: Duration,
    /// Wait before the first repetition; doubled with each more.
    pub backoff: Duration,
    /// Attempts in a row that bring nothing before a fetch is given up.
    pub attempts: u32,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            stall: Duration::from_secs(60),
            backoff: Duration::from_secs(1),
            attempts: 5,
        }
    }
}

/// A file cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is not there.
    #[error("{location} is not there ({answer})")]
    NotFound {
        /// What was asked for.
        location: String,
        /// What was answered, and by whom.
        answer: String,
    },
    /// The server refuses.
    #[error("{location}: the server answered {answer}")]
    Refused {
        /// What was asked for.
        location: String,
        /// What was answered, and by whom.
        answer: String,
    },
    /// The network or the server failed, again and again.
    #[error("cannot fetch {location}: {problem} (after {attempts} attempts without progress)")]
    Network {
        /// What was asked for.
        location: String,
        /// The last failure.
        problem: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// What was fetched is not what the checksum says.
    #[error("{location} has the wrong checksum: {found} instead of {expected}")]
    Mismatch {
        /// What was fetched.
        location: String,
        /// As published.
        expected: Checksum,
        /// As fetched.
        found: Checksum,
    },
    /// A checksum file is none.
    #[error("the checksum file {location} cannot be used: {source}")]
    Checksum {
        /// The checksum file.
        location: String,
        /// What is wrong with it.
        #[source]
        source: ChecksumError,
    },
    /// A signature is missing or bad.
    #[error("the checksum file {location} is not trusted: {source}")]
    Signature {
        /// The checksum file.
        location: String,
        /// What is wrong with it.
        #[source]
        source: SignatureError,
    },
    /// The archive with the kernel is not what it should be.
    #[error("the archive {location} cannot be used: {source}")]
    Unpack {
        /// The archive.
        location: String,
        /// What is wrong with it.
        #[source]
        source: UnpackError,
    },
    /// There is no room.
    #[error(
        "the file system of {folder} has {free} MiB of free space, and {needed} MiB more are to be \
         fetched: free some, or set KIWI_BOXED_CACHE_DIR to a folder on another one"
    )]
    Space {
        /// Where files are fetched to.
        folder: PathBuf,
        /// MiB.
        free: u64,
        /// MiB.
        needed: u64,
    },
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
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
    /// The user stopped it.
    #[error("interrupted; what was fetched is kept, and the next attempt goes on from there")]
    Interrupted,
}

impl FetchError {
    /// Whether another server of the same publisher may have what this one has not, or not yet.
    pub fn is_of_a_mirror(&self) -> bool {
        matches!(
            self,
            FetchError::NotFound { .. } | FetchError::Mismatch { .. } | FetchError::Checksum { .. }
        )
    }
}

fn io_error(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> FetchError {
    let path = path.to_owned();
    move |source| FetchError::Io {
        action,
        path,
        source,
    }
}
