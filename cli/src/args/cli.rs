//! The definition of the command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser, Subcommand};

use super::batch::BatchArgs;
use super::bench::BenchArgs;
use super::boxes::BoxCommand;
use super::build::BuildOptions;
use super::builds::BuildsArgs;
use super::completions::{CompleteArgs, CompletionsArgs};
use super::config::ConfigArgs;
use super::description::{CheckArgs, InfoArgs};
use super::df::DfArgs;
use super::examples;
use super::failed_builds::{LogsArgs, PruneArgs, ResumeArgs, ShellArgs};
use super::generate::What;
use super::help_layout;
use super::image::{RunArgs, TestArgs};
use super::verify::{DiffArgs, VerifyArgs, VerifyBuildArgs};

/// Builds OS images with KIWI NG in a box: a fast-booting virtual machine.
#[derive(Debug, Parser)]
#[command(
    name = "boxbuild",
    version,
    override_usage = "boxbuild [OPTIONS] --box NAME -- --description DIR --target-dir DIR ...\n       \
        boxbuild COMMAND ...",
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    arg_required_else_help = true,
    subcommand_negates_reqs = true
)]
pub(crate) struct Cli {
    /// A command other than a build.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// Options of a build.
    #[command(flatten)]
    pub(crate) build: BuildOptions,
    /// Read no settings file ('boxbuild help settings').
    #[arg(long, global = true, help_heading = "Settings")]
    pub(crate) no_config: bool,
}

/// Commands other than a build.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create, fetch, import, list, check and remove boxes.
    Box {
        /// What to do.
        #[command(subcommand)]
        command: BoxCommand,
        /// Print JSON on standard output: one document, or events where it takes long.
        #[arg(long, global = true)]
        json: bool,
    },
    /// Check a description without building it.
    ///
    /// On this host, and with --box also in a box. Build arguments such as --set-repo stand after --.
    Check(Box<CheckArgs>),
    /// Show what is in a description.
    ///
    /// Profiles, types, repositories, packages, users, and what KIWI would build.
    Info(InfoArgs),
    /// Check whether this host has what builds need.
    ///
    /// Says how to get what is missing. Ends with 0 if a build can run, else with 3.
    Doctor {
        /// Print the findings as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Boot an image, and check that it comes up.
    ///
    /// Disks, ISOs, kernels with their ramdisks in a virtual machine; container images and root archives in
    /// a container. The image is not written. Ends with 0 if the console shows what is expected, else with 1.
    Test(Box<TestArgs>),
    /// Boot an image with this terminal as its console.
    ///
    /// The image is not written: changes are discarded. Ctrl-] three times leaves it.
    Run(Box<RunArgs>),
    /// Check a result against the record that --attest left beside it.
    ///
    /// Names each file that is missing, changed or not of the build. Ends with 0 if all is well, else
    /// with 3.
    Verify(VerifyArgs),
    /// Build again as the record of a result says, and compare.
    ///
    /// Ends with 0 if the second result is the same, byte by byte, else with 1, or as the second build.
    VerifyBuild(VerifyBuildArgs),
    /// Show what differs between two results.
    ///
    /// Packages, files in archives, partition tables and superblocks, and else which pieces of a disk.
    /// Ends with 0 if there is no difference, else with 1.
    Diff(DiffArgs),
    /// Run many builds from one file, several at once.
    Batch(BatchArgs),
    /// Measure boot, share, disk and network on this host.
    ///
    /// It takes about a minute.
    Bench(BenchArgs),
    /// List the builds: those that run, and how the others ended.
    ///
    /// Failed builds that are kept have the name by which 'boxbuild shell' and 'boxbuild logs' know them.
    Builds(BuildsArgs),
    /// Show the log of a build.
    Logs(LogsArgs),
    /// Open a root shell in the box of a kept build.
    ///
    /// The disk is as the build left it. Changes are discarded; folders of the host are read-only.
    Shell(ShellArgs),
    /// Show what boxbuild keeps on this host, and what 'boxbuild prune' would free.
    Df(DfArgs),
    /// Go on with a kept build after kiwi's 'prepare'.
    ///
    /// For a build that failed in 'create': a program is missing in the box (--box-package), or something is
    /// wrong in the description that only 'create' reads, such as the type. Nothing is installed in the image
    /// again. What makes that impossible is said before anything is started.
    Resume(ResumeArgs),
    /// Remove kept builds, unused files of the box store, the cache.
    ///
    /// Without an option, it shows all of that, and asks.
    Prune(PruneArgs),
    /// Show the settings, and where each comes from.
    ///
    /// Of boxbuild.toml in the folder of settings, of the project's file, of the environment
    /// ('boxbuild help settings').
    Config(ConfigArgs),
    /// Print the completion script for a shell.
    Completions(CompletionsArgs),
    /// Show the help of a command, or on a topic.
    Help {
        /// A command, e.g. box create, or a topic, e.g. build-args.
        #[arg(value_name = "COMMAND|TOPIC")]
        words: Vec<String>,
    },
    /// Print what may stand at the end of a command line, for the completion scripts.
    #[command(hide = true)]
    Complete(CompleteArgs),
    /// Do the job of a batch that is on standard input: what a runner starts (docs/runners.md).
    #[command(hide = true)]
    Worker,
    /// Write manual pages or shell completions into a folder ('make docs').
    #[command(hide = true)]
    Generate {
        /// Which of them.
        what: What,
        /// The folder.
        dir: PathBuf,
    },
}

/// Returns the definition of the command line, with examples for each command and the options in
/// groups.
pub(crate) fn command() -> clap::Command {
    help_layout::arrange(examples::add(Cli::command()))
}
