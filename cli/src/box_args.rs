//! The commands on boxes, as typed.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arch::Arch;
use crate::args::CreateArgs;
use crate::fetch::{self, Key, SignatureError};
use crate::fetch_options::FetchOptions;
use crate::lockfile::{self, LockError, Locked};

/// Commands on boxes.
#[derive(Debug, Subcommand)]
pub enum BoxCommand {
    /// Make a box from a distribution's own packages.
    Create(CreateArgs),
    /// List the boxes on this machine and the published ones.
    List {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Show everything known about a box.
    Info {
        /// Name of the box.
        name: String,
        /// Architecture of the box.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
    },
    /// Fetch published boxes, or update them. Builds do that by themselves.
    Pull(PullArgs),
    /// Check the files of boxes against their checksums.
    Verify {
        /// Names of the boxes [default: all].
        names: Vec<String>,
    },
    /// Write down what boxes consist of, for builds with --locked.
    Lock {
        /// Names of the boxes.
        #[arg(required = true)]
        names: Vec<String>,
        /// Architecture of the boxes.
        #[arg(long, value_name = "ARCH")]
        arch: Option<Arch>,
        /// The file to write to.
        #[arg(long, value_name = "FILE", default_value = lockfile::FILE_NAME)]
        lock_file: PathBuf,
    },
    /// Remove what nobody needs: interrupted downloads, files of old versions.
    Prune,
    /// Remove a box from this machine.
    Rm {
        /// Name of the box.
        name: String,
    },
}

/// Options of `box pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// Names of the boxes.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// Architecture of the boxes.
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<Arch>,
    /// Fetch them anew, though they are what is published.
    #[arg(long)]
    pub force: bool,
    /// What may be fetched.
    #[command(flatten)]
    pub fetch: FetchOptions,
    /// What they must be.
    #[command(flatten)]
    pub source: SourceOptions,
}

/// What published boxes must be.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Published boxes")]
pub struct SourceOptions {
    /// Insist on the box that is in the lock file.
    #[arg(long)]
    pub locked: bool,
    /// The lock file.
    #[arg(long, value_name = "FILE", default_value = lockfile::FILE_NAME)]
    pub lock_file: PathBuf,
    /// OpenPGP public key that the published checksums must be signed by.
    #[arg(long, value_name = "FILE", env = fetch::KEY_VARIABLE)]
    pub signed_by: Option<PathBuf>,
}

impl SourceOptions {
    /// The lock file, if it counts.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn locked(&self) -> Result<Option<Locked>, LockError> {
        let path = self.locked.then_some(&self.lock_file);
        path.map(|path| Locked::read(path)).transpose()
    }

    /// The key, if there is one.
    ///
    /// # Errors
    /// If it is none.
    pub fn key(&self) -> Result<Option<Key>, SignatureError> {
        let path = self.signed_by.as_deref();
        path.filter(|path| !path.as_os_str().is_empty())
            .map(Key::read)
            .transpose()
    }
}
