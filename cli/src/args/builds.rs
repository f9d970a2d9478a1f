//! Options of `boxbuild builds`.

use std::path::PathBuf;

use clap::Args;

/// Options of `boxbuild builds`.
#[derive(Debug, Args)]
pub(crate) struct BuildsArgs {
    /// Only builds that failed.
    #[arg(long, conflicts_with = "running")]
    pub(crate) failed: bool,
    /// Only builds that run.
    #[arg(long)]
    pub(crate) running: bool,
    /// Only builds of this description folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) description: Option<PathBuf>,
    /// Only builds in this box.
    #[arg(long = "box", value_name = "NAME")]
    pub(crate) box_name: Option<String>,
    /// Only so many: the newest of these.
    #[arg(long, value_name = "N")]
    pub(crate) last: Option<usize>,
    /// Print the list as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
