//! Options of `boxbuild batch`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

/// Options of `batch`.
#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// What is to be built: a TOML file (docs/batch.md). Paths in it are relative to its folder.
    pub(crate) file: PathBuf,
    /// How many builds run at once [default: jobs of the file, or what has room].
    #[arg(long, short, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Only the builds of these names (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Go on with the other builds when one fails; that is the default.
    #[arg(long, conflicts_with = "fail_fast")]
    pub(crate) keep_going: bool,
    /// Stop all builds as soon as one fails.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Folder for a log of each build [default: log-dir of the file, or FILE.logs beside it].
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Show the logs and consoles of all builds live, with their names in front.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Say what would be run, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Say everything in JSON on standard output, one event a line.
    #[arg(long)]
    pub(crate) json: bool,
}
