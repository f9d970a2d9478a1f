//! Options that exist, but not on this side of the separator.

use boxbuild_core::build_args::{self, BuildArgsError};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::cli::{Cli, Command};
use super::error::ArgsError;
use super::kiwi_options::candidates;

/// Whose options a command line has before the separator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// A build.
    Build,
    /// `boxbuild check`, which takes build arguments as well.
    Check,
    /// Another command.
    Command,
}

impl Owner {
    /// Returns whose they are in `front`, the words before the separator.
    pub(super) fn of(front: &[std::ffi::OsString]) -> Owner {
        match front.first() {
            Some(word) if word == "check" => Owner::Check,
            Some(word) if !word.to_string_lossy().starts_with('-') => Owner::Command,
            _ => Owner::Build,
        }
    }

    /// Returns a command line that has build arguments.
    fn example(self) -> &'static str {
        match self {
            Owner::Check => "boxbuild check DESCRIPTION -- --set-repo SOURCE",
            _ => "boxbuild --box NAME -- --description DIR --target-dir DIR",
        }
    }
}

/// Explains an error of clap that is about an option or command in the wrong place.
pub(super) fn explain(error: clap::Error, owner: Owner) -> clap::Error {
    if error.kind() != ErrorKind::UnknownArgument && error.kind() != ErrorKind::InvalidSubcommand {
        return error;
    }
    let word = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand]
        .into_iter()
        .find_map(|kind| error.get(kind));
    let Some(ContextValue::String(word)) = word else {
        return error;
    };
    // clap shows an option with its value.
    let name = word.split(['=', ' ']).next().unwrap_or_default();
    if !name.starts_with("--") || owner == Owner::Command {
        return without_tip_on_separator(error);
    }
    let example = owner.example();
    let text = if build_args::is_option(name) {
        format!(
            "{name} is an option of 'kiwi-ng system build': put it after --, as in\n  {example}"
        )
    } else if let Some(option) = build_args::beginning_with(name) {
        format!(
            "{name}: {option} is an option of 'kiwi-ng system build': put it after --, as in\n  {example}"
        )
    } else {
        let several = candidates(false, name.trim_start_matches('-'));
        if several.len() < 2 {
            return without_tip_on_separator(error);
        }
        format!("{name} may be --{}: write it in full", several.join(", --"))
    };
    Cli::command().error(error.kind(), text)
}

/// Takes away clap's tip to put a value after `--`, which means something else here.
fn without_tip_on_separator(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::StyledStrs(tips)) = error.remove(ContextKind::Suggested) {
        let tips: Vec<_> = tips
            .into_iter()
            .filter(|tip| !tip.to_string().contains("as a value"))
            .collect();
        if !tips.is_empty() {
            error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
        }
    }
    error
}

/// Explains that `command`, which is called `name`, takes nothing after the separator.
pub(super) fn words_behind(command: &Command, name: &str) -> clap::Error {
    let hint = match command {
        Command::Batch(_) => "options of its builds are in the file, as build-args",
        Command::Info(_) => "'boxbuild check' takes build arguments",
        _ => "leave out -- and what follows it",
    };
    Cli::command().error(
        ErrorKind::UnknownArgument,
        format!("'boxbuild {name}' takes no build arguments: {hint}"),
    )
}

/// Explains that a command of kiwi-ng is not boxbuild's.
pub(super) fn other_command(name: &str) -> clap::Error {
    Cli::command().error(
        ErrorKind::InvalidSubcommand,
        format!(
            "'{name}': boxbuild has only one command of kiwi-ng, 'system boxbuild'; run kiwi-ng \
             itself for the others"
        ),
    )
}

/// Explains an option of boxbuild or kiwi-ng after the separator.
pub(super) fn explain_build_args(error: BuildArgsError) -> ArgsError {
    match error {
        BuildArgsError::Unknown { option, .. } if is_option(&option) => {
            ArgsError::Misplaced(option)
        }
        error => error.into(),
    }
}

/// Returns whether `name`, with its dashes, is an option that a build takes before the separator.
pub(crate) fn is_option(name: &str) -> bool {
    let command = Cli::command();
    name.strip_prefix("--").is_some_and(|name| {
        command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(name))
    })
}
