//! The wish for a record.

use std::ffi::OsString;
use std::path::PathBuf;

use boxbuild_provenance::sign::{Asking, Signer};
use serde::Serialize;

/// That a build is to have a record.
#[derive(Debug, Clone, Serialize)]
pub struct Attest {
    /// Who signs it.
    pub signer: Option<Signer>,
    /// Whether the signer can be asked for a pass phrase.
    #[serde(skip)]
    pub asking: Asking,
    /// The command line.
    #[serde(skip)]
    pub command_line: Vec<OsString>,
    /// The folder that its relative paths begin in.
    #[serde(skip)]
    pub working_folder: PathBuf,
}
