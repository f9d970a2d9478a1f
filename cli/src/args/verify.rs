//! Options of `boxbuild verify`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Options of `boxbuild verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The folder with the results.
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) result: PathBuf,
    /// Insist on a signature by a key of this file: a public OpenPGP key, a public SSH key, or allowed
    /// signers (ssh-keygen(1)).
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signed_by: Option<PathBuf>,
    /// Let there be other files in the folder, which the record does not name.
    #[arg(long)]
    pub(crate) allow_others: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
