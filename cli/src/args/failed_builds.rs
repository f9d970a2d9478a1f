//! Options of the commands on kept builds.

use clap::Args;

use super::values::{Memory, parse_memory};

/// Options of `boxbuild logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name of the build (see 'boxbuild builds') [default: the newest].
    pub(crate) id: Option<String>,
    /// Show the console of the box instead.
    #[arg(long)]
    pub(crate) console: bool,
    /// Print each line as an event in JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Options of `boxbuild shell`.
#[derive(Debug, Args)]
pub(crate) struct ShellArgs {
    /// Name of the build (see 'boxbuild builds') [default: the newest].
    pub(crate) id: Option<String>,
    /// Guest memory, e.g. 4G [default: the build's].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) box_memory: Option<Memory>,
}
