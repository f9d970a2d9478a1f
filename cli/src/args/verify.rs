//! Options of the commands on results.

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

/// Options of `boxbuild verify-build`.
#[derive(Debug, Args)]
pub(crate) struct VerifyBuildArgs {
    /// The folder with the results of a build with --attest.
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) result: PathBuf,
    /// Insist on a signature of the record by a key of this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) signed_by: Option<PathBuf>,
    /// Run what the record says without a signature: only for a record of your own, as it decides what of
    /// this host the box gets.
    #[arg(long)]
    pub(crate) trust_record: bool,
    /// Where the second result goes; it stays if it is another one [default: RESULT.again].
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) into: Option<PathBuf>,
    /// Print what differs as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `boxbuild diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// A folder with results, or a file.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) first: PathBuf,
    /// Another one.
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) second: PathBuf,
    /// Print what differs as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
