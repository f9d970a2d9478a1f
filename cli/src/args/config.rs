//! Options of `boxbuild config`.

use clap::Args;

/// Options of `boxbuild config`.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Show the files that are read, or would be.
    #[arg(long, conflicts_with = "all")]
    pub(crate) files: bool,
    /// Also show the settings that are not given, with their variables.
    #[arg(long)]
    pub(crate) all: bool,
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
