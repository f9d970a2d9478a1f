//! Parses a command line: [`super::scan`] reads it, clap parses what is before the separator.

use std::ffi::OsString;

use boxbuild_core::command_line::CommandLine;
use boxbuild_core::request::BuildRequest;
use clap::{CommandFactory, FromArgMatches};

use super::cli::{Cli, Command, command};
use super::error::ArgsError;
use super::misplaced::{self, Owner};
use super::scan::{Scan, scan};
use crate::manual::BUILD_ARGS;

/// A command line, cut at the separator.
#[derive(Debug)]
pub(crate) struct Invocation {
    /// The options before the separator.
    pub(crate) cli: Cli,
    /// The words after it; `None` if there is no separator.
    pub(crate) build_args: Option<Vec<OsString>>,
    /// What the user should know of how the command line was read.
    notes: Vec<String>,
    /// All words but the program's name.
    words: Vec<OsString>,
}

impl Invocation {
    /// Returns the request for a build.
    ///
    /// # Errors
    /// Fails if options are missing, wrong, or not possible in a box.
    pub(crate) fn request(&self) -> Result<BuildRequest, ArgsError> {
        let mut request = self.cli.build.request(self.build_args.as_deref())?;
        request.notes.splice(0..0, self.notes.iter().cloned());
        request.command_line = std::env::current_dir().ok().map(|folder| CommandLine {
            folder,
            words: self.words.clone(),
        });
        if let Some(attest) = &mut request.attest {
            attest.command_line.clone_from(&self.words);
        }
        Ok(request)
    }

    /// Adds what the user should know besides.
    pub(crate) fn note(&mut self, notes: &[String]) {
        self.notes.extend_from_slice(notes);
    }
}

/// Returns whether a command line has `--json`, even if it is wrong otherwise.
pub(crate) fn wants_json(argv: Vec<OsString>) -> bool {
    let Scan { front, .. } = scan(&Cli::command(), argv);
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

/// Returns the command of kiwi-ng, other than `system boxbuild`, that a command line is for; an empty
/// text stands for kiwi-ng itself, which is asked for its version or help.
pub(crate) fn other_command(argv: Vec<OsString>) -> Option<String> {
    let empty = argv.is_empty();
    let scan = scan(&Cli::command(), argv);
    scan.other
        .or_else(|| (scan.aside || empty).then(String::new))
}

/// Parses a command line (without the program's name).
pub(crate) fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Invocation, clap::Error> {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let mut scan = scan(&Cli::command(), argv.clone());
    if let Some(other) = &scan.other {
        return Err(misplaced::other_command(other));
    }
    let front = &mut scan.front;
    if front.len() > 1 && front[0] == "box" && front[1] == "help" {
        front.swap(0, 1);
    }
    let owner = Owner::of(front);
    let words = std::iter::once(OsString::from("boxbuild")).chain(scan.front);
    let explain = |error| misplaced::explain(error, owner);
    let matches = command().try_get_matches_from(words).map_err(explain)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(explain)?;
    if let Some(Command::Check(args)) = &mut cli.command {
        args.kiwi.drop_empty();
    }
    if let Some(command) = &cli.command
        && !matches!(command, Command::Check(_) | Command::Complete(_))
        && scan
            .build_args
            .as_ref()
            .is_some_and(|words| !words.is_empty())
    {
        let name = matches.subcommand_name().unwrap_or_default();
        return Err(misplaced::words_behind(command, name));
    }
    Ok(Invocation {
        cli,
        build_args: scan.build_args,
        notes: scan.notes,
        words: argv,
    })
}

/// Cuts a command line at the separator; the words `system boxbuild` are gone.
pub(crate) fn split(argv: Vec<OsString>) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let scan = scan(&Cli::command(), argv);
    (scan.front, scan.build_args)
}
