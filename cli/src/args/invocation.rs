//! Parses a command line: cuts it at the separator, gives the first part to clap.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use boxbuild_core::request::BuildRequest;
use clap::{CommandFactory, FromArgMatches};

use super::cli::{Cli, command};
use super::error::ArgsError;
use super::misplaced;
use crate::manual::BUILD_ARGS;

/// A command line, cut at the separator.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The options before the separator.
    pub(crate) cli: Cli,
    /// The words after it; `None` if there is no separator.
    pub(crate) build_args: Option<Vec<OsString>>,
}

impl Invocation {
    /// Returns the request for a build.
    ///
    /// # Errors
    /// Fails if options are missing, wrong, or not possible in a box.
    pub(crate) fn request(&self) -> Result<BuildRequest, ArgsError> {
        self.cli.build.request(self.build_args.as_deref())
    }
}

/// Returns whether a command line has `--json`, even if it is wrong otherwise.
pub(crate) fn wants_json(argv: Vec<OsString>) -> bool {
    let (front, _) = split(argv);
    front.iter().any(|word| word == "--json")
}

/// Returns whether a build's options after the separator ask for help. A word behind an option that has
/// a value is that value.
pub(crate) fn wants_help_on_build_args(argv: Vec<OsString>) -> bool {
    let (front, build_args) = split(argv);
    let is_help = |word: &OsString| word == "--help" || word == "-h";
    let is_hidden = front.first().is_some_and(|word| word == "complete");
    let words = build_args.filter(|_| !is_hidden).unwrap_or_default();
    words.iter().enumerate().any(|(number, word)| {
        let before = number.checked_sub(1).and_then(|before| words.get(before));
        let is_value = before.is_some_and(|before| {
            let option = BUILD_ARGS.iter().find(|option| before == option.name);
            option.is_some_and(|option| !option.value.is_empty())
        });
        is_help(word) && !is_value
    })
}

/// Parses a command line (without the program's name).
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let (mut front, build_args) = split(argv.into_iter().collect());
    if front.len() > 1 && front[0] == "box" && front[1] == "help" {
        front.swap(0, 1);
    }
    let words = std::iter::once(OsString::from("boxbuild")).chain(front);
    let cli = command()
        .try_get_matches_from(words)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map_err(misplaced::explain)?;
    Ok(Invocation { cli, build_args })
}

/// Cuts at the first `--` or bare word `kiwi`, and drops the words `system boxbuild`.
pub(crate) fn split(argv: Vec<OsString>) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let command = Cli::command();
    let mut front = Vec::new();
    let mut words = argv.into_iter();
    let mut bare_words = 0;
    while let Some(word) = words.next() {
        if word == "--" || (word == "kiwi" && bare_words == 0) {
            return (front, Some(words.collect()));
        }
        if takes_value(&command, &word) {
            front.push(word);
            front.extend(words.next());
        } else if word == "system" && bare_words == 0 {
            // `system boxbuild` is one command of kiwi-ng; clap reports any other `system`.
            match words.next() {
                Some(next) if next == "boxbuild" => {}
                next => {
                    front.push(word);
                    front.extend(next);
                    bare_words += 1;
                }
            }
        } else {
            bare_words += usize::from(!word.as_bytes().starts_with(b"-"));
            front.push(word);
        }
    }
    (front, None)
}

/// Returns whether `word` is an option whose value is the next word.
fn takes_value(command: &clap::Command, word: &OsStr) -> bool {
    let Some(name) = word.to_str().and_then(|word| word.strip_prefix("--")) else {
        return false;
    };
    command
        .get_arguments()
        .filter(|arg| arg.get_long() == Some(name))
        // An optional value follows `=`; it is never a word of its own.
        .any(|arg| arg.get_action().takes_values() && !arg.is_require_equals_set())
}
