//! The command line.
//!
//! Two grammars are accepted, so that scripts written for `kiwi-ng system boxbuild` run where
//! `kiwi-ng` is a link to boxbuild:
//!
//! ```text
//! boxbuild [GLOBAL] [OPTIONS] --box NAME (-- | kiwi) BUILD-ARGS...
//! boxbuild [GLOBAL] system boxbuild [OPTIONS] --box NAME (-- | kiwi) BUILD-ARGS...
//! ```
//!
//! The words after the separator belong to `kiwi-ng system build`: [`boxbuild_core::build_args`]
//! parses them, and clap parses the rest.

mod batch;
mod bench;
mod boxes;
mod build;
mod builds;
mod cli;
mod completions;
mod config;
mod description;
mod df;
mod error;
mod examples;
mod failed_builds;
mod fetch;
mod generate;
pub(crate) mod handed_over;
mod help_layout;
mod image;
mod invocation;
mod kiwi;
mod kiwi_options;
mod misplaced;
mod outline;
mod peer;
mod request;
mod scan;
mod values;
mod verify;

#[cfg(test)]
mod options_page_tests;
#[cfg(test)]
mod peer_tests;
#[cfg(test)]
mod tests;

pub(crate) use batch::{BatchArgs, Matrix};
pub(crate) use bench::BenchArgs;
pub(crate) use boxes::{BoxCommand, CreateArgs, ImportArgs, PullArgs};
pub(crate) use build::BuildOptions;
pub(crate) use builds::BuildsArgs;
pub(crate) use cli::{Cli, Command, command};
pub(crate) use completions::{CompleteArgs, CompletionShell, CompletionsArgs};
pub(crate) use config::ConfigArgs;
pub(crate) use description::{CheckArgs, InfoArgs};
pub(crate) use df::DfArgs;
pub(crate) use error::ArgsError;
pub(crate) use examples::{BUILD_EXAMPLES, examples_of};
pub(crate) use failed_builds::{LogsArgs, PruneArgs, ResumeArgs, ShellArgs};
pub(crate) use generate::What;
pub(crate) use image::{RunArgs, TestArgs};
pub(crate) use invocation::{
    Invocation, other_command, parse, split, wants_help_on_build_args, wants_json,
};
pub(crate) use misplaced::is_option;
pub(crate) use outline::{Outline, outline};
pub(crate) use values::{MOST_JOBS, parse_duration};
pub(crate) use verify::{DiffArgs, VerifyArgs, VerifyBuildArgs};
