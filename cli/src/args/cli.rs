//! The definition of the command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use super::batch::BatchArgs;
use super::bench::BenchArgs;
use super::boxes::BoxCommand;
use super::build::BuildOptions;
use super::description::{CheckArgs, InfoArgs};
use super::examples;
use super::failed_builds::{LogsArgs, ShellArgs};
use super::generate::What;

const EXAMPLES: &str = "\
Examples:
  Create a box once, then build an image in it:
    boxbuild box create debian --from debian:trixie
    boxbuild --box debian -- --description ./image --target-dir /tmp/image

  Select a profile and add a repository; the options after -- go to 'kiwi-ng system build':
    boxbuild --profile Virtual --box debian -- --description ./image \\
        --target-dir /tmp/image --add-repo http://mirror.example/debian,apt-deb

Exit codes:
  0 built   1 the build failed in the box   2 wrong usage
  3 problem with the host or the box   124 timeout   130 interrupted";

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
    /// A command other than a build.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Options of a build.
    #[command(flatten)]
    pub(crate) build: BuildOptions,
}

/// Commands other than a build.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, fetch, import, list, check and remove boxes.
    #[command(subcommand)]
    Box(BoxCommand),
    /// Check a description: on this host, and with --box also in a box, without building it. Build
    /// arguments such as --set-repo stand after --.
    Check(Box<CheckArgs>),
    /// Show what is in a description: profiles, types, repositories, packages, users.
    Info(InfoArgs),
    /// Check whether this host has what builds need, and how to get what is missing.
    Doctor,
    /// Run many builds from one file, several at once.
    Batch(BatchArgs),
    /// Measure boot, share, disk and network on this host, in about a minute.
    Bench(BenchArgs),
    /// List the kept builds: failed builds whose disk and logs are there.
    Builds {
        /// Print the list as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show the log of a kept build.
    Logs(LogsArgs),
    /// Open a root shell in the box of a kept build, on the disk as the build left it. Changes are
    /// discarded; folders of the host are read-only.
    Shell(ShellArgs),
    /// Remove kept builds.
    Prune {
        /// Names of the builds [default: all].
        #[arg(value_name = "ID")]
        ids: Vec<String>,
    },
    /// Write manual pages or shell completions into a folder ('make docs').
    #[command(hide = true)]
    Generate {
        /// Which of them.
        what: What,
        /// The folder.
        dir: PathBuf,
    },
}

/// Returns the definition of the command line, with examples for each command.
pub(crate) fn command() -> clap::Command {
    examples::add(Cli::command())
}
