//! What makes the record of a build, and what it gets to know.

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_provenance::check::LONGEST;
use boxbuild_provenance::sign;

/// What makes the record of a build.
pub trait Recorder {
    /// Returns the files of the record.
    ///
    /// # Errors
    /// Fails if there is none: nothing is published then.
    fn record(&mut self, delivered: &Delivered) -> Result<Vec<RecordFile>, RecordError>;
}

/// What a build delivered.
#[derive(Debug, Default)]
pub struct Delivered {
    /// All files, those in folders among them.
    pub files: Vec<DeliveredFile>,
    /// kiwi's log.
    pub log: Option<DeliveredFile>,
    /// kiwi's lists of packages.
    pub packages: Vec<String>,
    /// What the guest side saw.
    pub observed: String,
}

/// A file that was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveredFile {
    /// Its path in the target folder.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// A file of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordFile {
    /// Its name, one of [`boxbuild_provenance::names::ALL`].
    pub name: &'static str,
    /// Its contents.
    pub text: Vec<u8>,
}

/// There is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A result cannot be covered.
    #[error("'{0}' is too large to get a checksum")]
    TooLarge(String),
    /// A document would be longer than a check reads.
    #[error("'{0}' would have more than {most} bytes: there are too many results or packages; build without --attest", most = LONGEST)]
    TooLong(&'static str),
    /// The key did not sign.
    #[error(transparent)]
    Sign(#[from] sign::SignError),
    /// A document cannot be written.
    #[error("cannot write the record")]
    Write(#[from] serde_json::Error),
}

impl Classify for RecordError {
    fn class(&self) -> ErrorClass {
        match self {
            RecordError::Sign(error) => error.class(),
            _ => ErrorClass::Host,
        }
    }
}
