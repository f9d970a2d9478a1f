//! Words that are right, but stand in the wrong place.

use boxbuild_core::build_args::{self, BuildArgsError};
use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::cli::Cli;
use super::error::ArgsError;

/// Says what is to be done about words that are right, but stand in the wrong place.
pub(super) fn explain(error: clap::Error) -> clap::Error {
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
    let text = if build_args::is_option(name) {
        format!(
            "{name} is an option of 'kiwi-ng system build': write it behind the separator, as in\n  \
             boxbuild --box NAME -- --description DIR --target-dir DIR"
        )
    } else if ["system", "image", "result"].contains(&name) {
        format!(
            "'{name}': of kiwi-ng's commands, boxbuild has only 'system boxbuild'; run the others \
             with kiwi-ng itself"
        )
    } else {
        return error;
    };
    Cli::command().error(error.kind(), text)
}

/// Explains an option of boxbuild or kiwi-ng behind the separator.
pub(super) fn explain_build_args(error: BuildArgsError) -> ArgsError {
    match error {
        BuildArgsError::Unknown { option, .. } if is_option(&option) => {
            ArgsError::Misplaced(option)
        }
        error => error.into(),
    }
}

/// Whether `name` is an option of a build, in front of the separator.
pub(crate) fn is_option(name: &str) -> bool {
    let command = Cli::command();
    name.strip_prefix("--").is_some_and(|name| {
        command
            .get_arguments()
            .any(|arg| arg.get_long() == Some(name))
    })
}
