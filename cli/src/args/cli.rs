//! The definition of the command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use super::batch::BatchArgs;
use super::bench::BenchArgs;
use super::boxes::BoxCommand;
use super::build::BuildOptions;
use super::examples;
use super::failed_builds::{LogsArgs, ShellArgs};
use super::generate::What;

const EXAMPLES: &str = "\
Examples:
  Make a box once, then build an image in it:
    boxbuild box create debian --from debian:trixie
    boxbuild --box debian -- --description ./image --target-dir /tmp/image

  Select a profile and add a repository; words behind -- go to 'kiwi-ng system build':
    boxbuild --profile Virtual --box debian -- --description ./image \\
        --target-dir /tmp/image --add-repo http://mirror.example/debian,apt-deb

Exit codes:
  0 built   1 the build failed in the box   2 wrong usage
  3 a problem of the host or the box   124 timeout   130 interrupted";

/// Builds OS images with KIWI NG in a box: a fast-booting virtual machine.
#[derive(Debug, Parser)]
#[command(
    name = "boxbuild",
    version,
    after_help = EXAMPLES,
    override_usage = "boxbuild [OPTIONS] --box <NAME> -- --description <DIR> --target-dir <DIR> \
        [BUILD-ARGS]...\n       boxbuild box <COMMAND>",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    /// What to do instead of a build.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Options of a build.
    #[command(flatten)]
    pub(crate) build: BuildOptions,
}

/// Commands besides the build.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Fetch, make, import, show, check and remove boxes.
    #[command(subcommand)]
    Box(BoxCommand),
    /// Check whether this machine has what builds need, and say how to get what it lacks.
    Doctor,
    /// Run many builds from one file, several at once.
    Batch(BatchArgs),
    /// Measure boot, share, disk and network on this machine, in about a minute.
    Bench(BenchArgs),
    /// List the failed builds that are kept.
    Builds {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the log of a failed build.
    Logs(LogsArgs),
    /// Enter the box of a failed build: a root shell on its disk, as the build left it. What is
    /// changed there is thrown away; folders of the host are read-only.
    Shell(ShellArgs),
    /// Remove failed builds that are kept.
    Prune {
        /// Names of the builds [default: all].
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Make manual pages or shell completions in a folder ('make docs').
    #[command(hide = true)]
    Generate {
        /// What to make.
        what: What,
        /// Where.
        dir: PathBuf,
    },
}

/// The definition of the command line, with examples for each command.
pub(crate) fn command() -> clap::Command {
    examples::add(Cli::command())
}
