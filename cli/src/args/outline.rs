//! What a command line gives, before anything is made of it: settings are put into it where it leaves
//! something out.

use std::ffi::OsString;

use boxbuild_core::build_args;
use clap::{Arg, CommandFactory};

use super::cli::{Cli, command};
use super::scan::{Scan, scan};

/// A command line in outline.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// The words of the command, with blanks between them; empty for a build.
    pub(crate) command: String,
    /// Where options can be put: behind the words of the command.
    pub(crate) options_at: usize,
    /// Names of the options that are given, without dashes.
    pub(crate) given: Vec<String>,
    /// Where build arguments can be put: behind the separator, if there is one.
    pub(crate) build_args_at: Option<usize>,
    /// Names of the build arguments that are given.
    pub(crate) given_build_args: Vec<String>,
    /// It asks for the help or the version.
    pub(crate) asks_for_help: bool,
}

/// Returns the outline of a command line; `None` if it is for no command of boxbuild.
pub(crate) fn outline(argv: &[OsString]) -> Option<Outline> {
    let Scan {
        front,
        build_args,
        other,
        ..
    } = scan(&Cli::command(), argv.to_vec());
    if other.is_some() {
        return None;
    }
    let mut top = command();
    top.build();
    let words: Vec<&str> = front.iter().filter_map(|word| word.to_str()).collect();
    let mut outline = Outline::default();
    let mut found = &top;
    if words.first().is_some_and(|word| !word.starts_with('-')) {
        let mut at = 0;
        for word in &words {
            let Some(next) = found.find_subcommand(word) else {
                if word.starts_with('-') {
                    continue;
                }
                break;
            };
            at += argv.get(at..)?.iter().position(|given| given == *word)? + 1;
            let space = if outline.command.is_empty() { "" } else { " " };
            outline.command += &format!("{space}{}", next.get_name());
            found = next;
            if !found.has_subcommands() {
                break;
            }
        }
        if outline.command.is_empty() {
            return None;
        }
        outline.options_at = at;
    }
    outline.given = given(found, &words);
    outline.asks_for_help = outline
        .given
        .iter()
        .any(|name| name == "help" || name == "version");
    if let Some(build_args) = build_args {
        outline.build_args_at = Some(argv.len() - build_args.len());
        let names = build_args.iter().filter_map(|word| word.to_str());
        outline.given_build_args = names.filter_map(build_arg).collect();
    }
    Some(outline)
}

/// Names of the options of `command` among `words`.
fn given(command: &clap::Command, words: &[&str]) -> Vec<String> {
    let mut given = Vec::new();
    for word in words {
        if let Some(long) = word.strip_prefix("--") {
            let name = long.split('=').next().unwrap_or_default();
            given.push(name.to_owned());
        } else if let Some(shorts) = word.strip_prefix('-') {
            for short in shorts.chars() {
                let arg = command
                    .get_arguments()
                    .find(|arg| arg.get_short() == Some(short));
                let Some(arg) = arg else { break };
                given.extend(arg.get_long().map(str::to_owned));
                if Arg::get_action(arg).takes_values() {
                    break;
                }
            }
        }
    }
    given
}

/// The build argument that `word` gives, if it gives one.
fn build_arg(word: &str) -> Option<String> {
    let name = word.split('=').next().unwrap_or_default();
    let full = build_args::names()
        .find(|known| *known == name)
        .or_else(|| build_args::beginning_with(name))?;
    Some(full.trim_start_matches('-').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<Outline> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        outline(&words)
    }

    #[test]
    fn a_build_in_both_grammars() {
        let one = of("--box batch --prof A -v -- --description d --add-repo=x").unwrap();
        assert_eq!(one.command, "");
        assert_eq!(one.options_at, 0);
        assert_eq!(one.given, ["box", "profile", "verbose"]);
        assert_eq!(one.build_args_at, Some(6));
        assert_eq!(one.given_build_args, ["description", "add-repo"]);
        let two = of("system boxbuild --box x kiwi -- --target-dir t").unwrap();
        assert_eq!(two.given, ["box"]);
        assert_eq!(two.build_args_at, Some(6));
        assert_eq!(two.given_build_args, ["target-dir"]);
        assert_eq!(of("--box x").unwrap().build_args_at, None);
        assert!(of("--help").unwrap().asks_for_help);
        assert_eq!(of("image info"), None);
    }

    #[test]
    fn a_command_with_its_words() {
        let found = of("box --json create b --from debian:trixie").unwrap();
        assert_eq!(found.command, "box create");
        assert_eq!(found.options_at, 3);
        assert_eq!(found.given, ["json", "from"]);
        let found = of("batch -vj4 box.toml").unwrap();
        assert_eq!(found.command, "batch");
        assert_eq!(found.given, ["verbose", "jobs"]);
        let found = of("check d -- --add-repo x").unwrap();
        assert_eq!((found.options_at, found.build_args_at), (1, Some(3)));
        assert_eq!(of("lsit"), None);
        assert_eq!(of(""), Some(Outline::default()));
    }
}
