//! Options of `boxbuild batch`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::values;

/// Options of `boxbuild batch`.
#[derive(Debug, Args)]
pub(crate) struct BatchArgs {
    /// A TOML file with the builds ('boxbuild help batch-file'). Paths in it are relative to its folder.
    pub(crate) file: PathBuf,
    /// Run this many builds at once [default: jobs of the file, or as many as the host has room for].
    #[arg(long, short, value_name = "N", value_parser = values::jobs())]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// Run only the build of this name (repeatable).
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// Continue with the other builds when one fails; this is the default.
    #[arg(long, conflicts_with = "fail_fast")]
    pub(crate) keep_going: bool,
    /// Stop all builds as soon as one fails.
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// Go on with a batch that was ended: builds with a record of their results are not built again.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Run the builds through this runner of the settings file, on other hosts ('local': on this one).
    #[arg(long, value_name = "NAME")]
    pub(crate) runner: Option<String>,
    /// File with the runners [default: ~/.config/boxbuild.toml].
    #[arg(long, value_name = "FILE", requires = "runner")]
    pub(crate) runner_config: Option<PathBuf>,
    /// Folder for the logs, one for each build [default: log-dir of the file, or FILE.logs beside it].
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Show the logs and consoles of all builds live, each line with the name of its build.
    #[arg(long, short)]
    pub(crate) verbose: bool,
    /// Show what would run, and stop.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Write a report for systems that run jobs, as JUnit's XML: a test case for each build.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) junit: Option<PathBuf>,
    /// Print the builds as the matrix of a system that runs jobs, and stop. Nothing but the file is
    /// looked at.
    #[arg(long, value_name = "SYSTEM", value_enum, conflicts_with_all = ["dry_run", "junit", "json"])]
    pub(crate) matrix: Option<Matrix>,
    /// Print events as JSON on standard output, one a line; with --dry-run, the plan as one object.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Whose matrix `--matrix` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Matrix {
    /// `strategy.matrix` of GitHub Actions, one line of JSON.
    Github,
}
