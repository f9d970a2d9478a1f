//! Options of the commands on kept builds.

use std::time::Duration;

use clap::Args;

use super::values::{Memory, parse_amount, parse_duration, parse_limit, parse_memory};

/// Options of `boxbuild logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name or number of the build (see 'boxbuild builds') [default: the newest kept one; with --follow,
    /// the newest that runs].
    pub(crate) id: Option<String>,
    /// Show the console of the box instead: its end, of a kept build.
    #[arg(long, conflicts_with = "follow")]
    pub(crate) console: bool,
    /// Show what the log gains until the build ends, and how it ended; the exit code is the build's.
    #[arg(long, short)]
    pub(crate) follow: bool,
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

/// Options of `boxbuild resume`.
#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// Name of the build (see 'boxbuild builds') [default: the newest].
    pub(crate) id: Option<String>,
    /// Install this package in the box first (repeatable).
    #[arg(long = "box-package", value_name = "NAME")]
    pub(crate) box_packages: Vec<String>,
    /// Guest memory, e.g. 4G [default: the build's].
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(crate) box_memory: Option<Memory>,
    /// Stop after this time, e.g. 90m (exit code 124) [default: the build's].
    #[arg(long, value_name = "TIME", value_parser = parse_limit)]
    pub(crate) timeout: Option<Duration>,
    /// Keep the box running afterwards, failed or not, with a root shell on this terminal.
    #[arg(long)]
    pub(crate) box_debug: bool,
    /// Show the build log and the console of the box live.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Show what would run, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print events as JSON on standard output, one a line; with --dry-run, the plan as one object.
    #[arg(long, conflicts_with = "box_debug")]
    pub(crate) json: bool,
}

/// Options of `boxbuild prune`.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Names of kept builds (see 'boxbuild builds').
    #[arg(value_name = "ID",
        conflicts_with_all = ["builds", "boxes", "cache", "all", "older_than", "max_size"])]
    pub(crate) ids: Vec<String>,
    /// All kept builds.
    #[arg(long)]
    pub(crate) builds: bool,
    /// Files in the box store that no box needs: interrupted downloads, old versions.
    #[arg(long)]
    pub(crate) boxes: bool,
    /// The cache: packages, kernels and ramdisks made ready, times of earlier builds.
    #[arg(long)]
    pub(crate) cache: bool,
    /// Of the cache, only what is over this, e.g. 5G: what was not used for longest goes first.
    #[arg(long, value_name = "SIZE", value_parser = parse_amount, conflicts_with_all = ["builds", "boxes", "all"])]
    pub(crate) max_size: Option<u64>,
    /// All of these, without asking. Boxes stay.
    #[arg(long, conflicts_with_all = ["builds", "boxes", "cache"])]
    pub(crate) all: bool,
    /// Only what is older than this, e.g. 7d.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub(crate) older_than: Option<Duration>,
    /// Show what would be removed, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print what was removed as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
