//! Options of `boxbuild df`.

use clap::Args;

/// Options of `boxbuild df`.
#[derive(Debug, Args)]
pub(crate) struct DfArgs {
    /// Also show each box, kept build and kind of cache.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
