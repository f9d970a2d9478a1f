//! The definition of the command line with the values that its options can have.

use std::ffi::OsString;

use clap::{Arg, Command, ValueHint};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::description::{InDescription, Named};
use super::values;
use crate::args;
use crate::manual::BUILD_ARGS;

/// Returns the command with the options before the separator; `words` are those of the whole line.
pub(super) fn before_separator(words: &[OsString]) -> Command {
    let known = InDescription::of_line(words);
    args::command()
        .mut_args(|arg| of_builds_and_descriptions(arg, &known))
        .mut_subcommand("info", |command| {
            command.mut_args(|arg| of_builds_and_descriptions(arg, &known))
        })
        .mut_subcommand("check", |command| {
            command.mut_args(|arg| of_builds_and_descriptions(arg, &known))
        })
        .mut_subcommand("box", |command| {
            let names: Vec<String> = names_of_subcommands(&command);
            names.iter().fold(command, |command, name| {
                command.mut_subcommand(name, |sub| of_boxes(name, sub))
            })
        })
        .mut_subcommand("logs", of_builds)
        .mut_subcommand("shell", of_builds)
        .mut_subcommand("resume", of_builds)
        .mut_subcommand("prune", of_builds)
        .mut_subcommand("bench", |command| {
            command.mut_args(|arg| match arg.get_id().as_str() {
                "boot_box" => with(arg, values::installed_boxes),
                _ => arg,
            })
        })
}

/// Gives an option of a build, or of a command on descriptions, its values.
fn of_builds_and_descriptions(arg: Arg, known: &InDescription) -> Arg {
    match arg.get_id().as_str() {
        "box_name" => with(arg, values::boxes),
        "profile" => with_names(arg, &known.profiles),
        "kiwi_file" => with_names(arg, &known.files),
        "image_type" if known.types.is_empty() => with(arg, values::image_types),
        "image_type" => with_names(arg, &known.types),
        "attest" => arg.value_hint(ValueHint::FilePath),
        "arch" | "target_arch" => with(arg, values::arches),
        "description" => arg.value_hint(ValueHint::DirPath),
        // Their values may be something else than a path of this host, too.
        "ssh_key" | "config" => arg.value_hint(ValueHint::FilePath),
        "shared_cache_dir" => arg.value_hint(ValueHint::DirPath),
        _ => arg,
    }
}

/// Returns the command with the options after the separator.
pub(super) fn after_separator() -> Command {
    let options = BUILD_ARGS.iter().map(|option| {
        let arg = Arg::new(option.name)
            .long(option.name.trim_start_matches("--"))
            .help(option.help);
        let known = option.value.contains('|') && option.value.chars().all(|c| !c.is_uppercase());
        match option.value {
            "" => arg.action(clap::ArgAction::SetTrue),
            values if known => {
                let values: Vec<&str> = values.split('|').collect();
                arg.action(clap::ArgAction::Append)
                    .value_parser(clap::builder::PossibleValuesParser::new(values))
            }
            value => arg.action(clap::ArgAction::Append).value_hint(hint(value)),
        }
    });
    Command::new("boxbuild")
        .disable_help_flag(true)
        .args(options)
}

/// Returns what kind of value it is that the help calls so.
fn hint(value: &str) -> ValueHint {
    if value.starts_with("DIR") || value.starts_with("SOURCE") {
        ValueHint::DirPath
    } else if value.contains("FILE") || value == "URI" {
        ValueHint::AnyPath
    } else {
        ValueHint::Other
    }
}

fn names_of_subcommands(command: &Command) -> Vec<String> {
    let subs = command.get_subcommands();
    subs.map(|sub| sub.get_name().to_owned()).collect()
}

/// Commands on boxes: `pull` takes those that are published, `create` and `import` make new ones.
fn of_boxes(name: &str, command: Command) -> Command {
    let name = name.to_owned();
    command.mut_args(move |arg| {
        let id = arg.get_id().as_str().to_owned();
        match (id.as_str(), name.as_str()) {
            ("name" | "names", "create" | "import") => arg.value_hint(ValueHint::Other),
            ("name" | "names", "pull" | "info") => with(arg, values::boxes),
            ("name" | "names", _) => with(arg, values::installed_boxes),
            ("from", _) => with(arg, values::releases),
            ("arch", _) => with(arg, values::arches),
            _ => arg,
        }
    })
}

fn of_builds(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_id().as_str() {
        "id" | "ids" => with(arg, values::builds),
        _ => arg,
    })
}

fn with(arg: Arg, candidates: fn() -> Vec<CompletionCandidate>) -> Arg {
    arg.add(ArgValueCandidates::new(candidates))
}

fn with_names(arg: Arg, names: &[Named]) -> Arg {
    let names = names.to_vec();
    arg.add(ArgValueCandidates::new(move || {
        let candidates = names.iter().map(|(name, help)| {
            let help = Some(help).filter(|help| !help.is_empty());
            CompletionCandidate::new(name).help(help.map(|help| help.clone().into()))
        });
        candidates.collect()
    }))
}
