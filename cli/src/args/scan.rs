//! Reads a command line as kiwi-ng does, and gives clap one that is plain: the words `system boxbuild`
//! are gone, each option has its full name and its value behind `=`, and none is given twice.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use boxbuild_core::build_args;
use clap::{Arg, ArgAction};

use super::kiwi_options::{BOXBUILD, GLOBAL, candidates};

/// Commands of kiwi-ng, besides `system boxbuild`, by their first word (`kiwi-ng --help`; `compat`: KIWI
/// before 11).
const SERVICES: [&str; 4] = ["system", "image", "result", "compat"];

/// Options of kiwi-ng itself that are commands: it does nothing else.
const ASIDE: [&str; 6] = [
    "--version",
    "-v",
    "--help",
    "-h",
    "--install-completion",
    "--show-completion",
];

/// A command line, read.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The words before the separator, for clap.
    pub(super) front: Vec<OsString>,
    /// The words after it; `None` if there is no separator.
    pub(super) build_args: Option<Vec<OsString>>,
    /// What the user should know of how it was read.
    pub(super) notes: Vec<String>,
    /// The command of kiwi-ng that it names, if that is not `system boxbuild`.
    pub(super) other: Option<String>,
    /// It has an option that kiwi-ng itself answers, and no command.
    pub(super) aside: bool,
}

/// What has been read of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing, or options.
    Start,
    /// `system`.
    System,
    /// `system boxbuild`.
    Boxbuild,
    /// A command of boxbuild: its words are left as they are.
    Command,
}

/// A word for clap.
#[derive(Debug)]
struct Word {
    text: OsString,
    /// The option that it gives, if that may be given once: a later one takes its place.
    single: Option<(String, Option<OsString>)>,
}

impl Word {
    fn plain(text: OsString) -> Word {
        Word { text, single: None }
    }
}

/// Reads the command line `argv` (without the program's name); `command` has the options.
pub(super) fn scan(command: &clap::Command, argv: Vec<OsString>) -> Scan {
    let mut scan = Scan::default();
    let mut words = VecDeque::from(argv);
    let mut front: Vec<Word> = Vec::new();
    let mut place = Place::Start;
    while let Some(word) = words.pop_front() {
        if word == "--" || (word == "kiwi" && place != Place::Command) {
            // `kiwi --` is `--` twice.
            if word == "kiwi" && words.front().is_some_and(|next| next == "--") {
                words.pop_front();
            }
            scan.build_args = Some(words.into());
            break;
        }
        if place == Place::Command {
            front.push(Word::plain(word));
        } else if word.as_bytes().starts_with(b"-") {
            scan.aside |= place == Place::Start && ASIDE.iter().any(|option| word == *option);
            let option = scan.option(command, place, word, &mut words);
            front.extend(option);
        } else if place == Place::System && word == "boxbuild" {
            place = Place::Boxbuild;
        } else if place == Place::Start && word == "system" {
            place = Place::System;
        } else {
            let name = word.to_string_lossy().into_owned();
            scan.other = match place {
                Place::System => Some(format!("system {name}")),
                Place::Start if SERVICES.contains(&&*name) => {
                    let next = words.front().map(|next| next.to_string_lossy());
                    let next = next.filter(|next| !next.starts_with('-'));
                    Some(next.map_or(name.clone(), |next| format!("{name} {next}")))
                }
                _ => None,
            };
            place = Place::Command;
            front.push(Word::plain(word));
        }
    }
    if place == Place::System {
        scan.other = Some(String::from("system"));
    }
    scan.aside &= place == Place::Start && scan.build_args.is_none();
    scan.last_wins(front);
    scan
}

impl Scan {
    /// Reads the option `word`, whose value may be the next of `words`.
    fn option(
        &mut self,
        command: &clap::Command,
        place: Place,
        word: OsString,
        words: &mut VecDeque<OsString>,
    ) -> Option<Word> {
        let (typed, attached) = split_assignment(&word);
        let Some((name, arg)) = self.find(command, place, &typed) else {
            return Some(Word::plain(word));
        };
        let mut value = attached;
        if value.is_none() && takes_word(arg) && words.front().is_some_and(|next| is_value(next)) {
            value = words.pop_front();
        }
        let of_kiwi = GLOBAL.contains(&&*name) || BOXBUILD.contains(&&*name);
        if of_kiwi && takes_word(arg) && value.as_ref().is_some_and(|value| value.is_empty()) {
            // kiwi-ng asks whether there is a text, not whether there is an option.
            self.notes
                .push(format!("--{name}: an empty value counts as not given"));
            return None;
        }
        let mut text = OsString::from(format!("--{name}"));
        if let Some(value) = &value {
            text.push("=");
            text.push(value);
        }
        let single = matches!(arg.get_action(), ArgAction::Set | ArgAction::SetTrue);
        Some(Word {
            text,
            single: single.then_some((name, value)),
        })
    }

    /// Returns the full name of the option `typed`, and what it is. Beginnings of names are understood
    /// for kiwi-ng's options, as KIWI before 11 does.
    fn find<'a>(
        &mut self,
        command: &'a clap::Command,
        place: Place,
        typed: &str,
    ) -> Option<(String, &'a Arg)> {
        let arg = |name: &str| {
            command
                .get_arguments()
                .find(|arg| arg.get_long() == Some(name))
        };
        let name = typed.strip_prefix("--")?;
        if let Some(arg) = arg(name) {
            return Some((name.to_owned(), arg));
        }
        let full = match &candidates(place == Place::Boxbuild, name)[..] {
            [only] => *only,
            _ => return None,
        };
        self.notes.push(format!("{typed}: taken for --{full}"));
        Some((full.to_owned(), arg(full)?))
    }

    /// Takes the words for clap. Of an option that is given more than once, the last counts.
    fn last_wins(&mut self, front: Vec<Word>) {
        let mut later: Vec<(String, Option<OsString>)> = Vec::new();
        let mut notes = Vec::new();
        for word in front.into_iter().rev() {
            let Some((name, value)) = word.single else {
                self.front.push(word.text);
                continue;
            };
            match later.iter().find(|(known, _)| *known == name) {
                Some((_, last)) if *last != value => {
                    let shown = |value: &Option<OsString>| {
                        value.as_deref().unwrap_or_default().display().to_string()
                    };
                    notes.push(format!(
                        "--{name} is given more than once: {} counts, not {}",
                        shown(last),
                        shown(&value)
                    ));
                }
                Some(_) => {}
                None => {
                    later.push((name, value));
                    self.front.push(word.text);
                }
            }
        }
        self.front.reverse();
        self.notes.extend(notes.into_iter().rev());
    }
}

/// Cuts an option at the first `=`.
fn split_assignment(word: &OsStr) -> (String, Option<OsString>) {
    let bytes = word.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=');
    let name = String::from_utf8_lossy(&bytes[..at.unwrap_or(bytes.len())]).into_owned();
    let value = at.map(|at| OsStr::from_bytes(&bytes[at + 1..]).to_owned());
    (name, value)
}

/// Returns whether the value of `arg` may be the next word. An optional value follows `=`.
fn takes_word(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// Returns whether `word` can be a value: it may begin with a dash (`--loglevel -5`), but where it is an
/// option itself, a value was forgotten.
fn is_value(word: &OsStr) -> bool {
    if word == "--" {
        return false;
    }
    let (name, _) = split_assignment(word);
    let Some(long) = name.strip_prefix("--") else {
        return true;
    };
    !GLOBAL.contains(&long)
        && !BOXBUILD.contains(&long)
        && !build_args::is_option(&name)
        && !super::is_option(&name)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    fn of(line: &str) -> Scan {
        let words = line.split(' ').map(OsString::from).collect();
        scan(&Cli::command(), words)
    }

    #[test]
    fn clap_gets_full_names_with_their_values() {
        let read = of("--prof A system boxbuild --box b --no-s --cpu=x -- --description d");
        assert_eq!(
            read.front,
            ["--profile=A", "--box=b", "--no-snapshot", "--cpu=x"]
        );
        assert_eq!(read.build_args.unwrap(), ["--description", "d"]);
        assert_eq!(
            read.notes,
            [
                "--prof: taken for --profile",
                "--no-s: taken for --no-snapshot"
            ]
        );
        // Two options begin like this: clap says that there is no such option.
        assert_eq!(of("--log x").front, ["--log", "x"]);
        // After `system boxbuild`, its own come first.
        assert_eq!(
            of("system boxbuild --shared /x").front,
            ["--shared-path=/x"]
        );
        // Short names of boxbuild's own options mean nothing.
        assert_eq!(of("--desc x").front, ["--desc", "x"]);
    }

    #[test]
    fn the_last_of_several_counts_and_a_note_says_so() {
        let read = of("--box a --debug --box b --debug --profile x --profile y");
        assert_eq!(
            read.front,
            ["--box=b", "--debug", "--profile=x", "--profile=y"]
        );
        assert_eq!(
            read.notes,
            ["--box is given more than once: b counts, not a"]
        );
        assert!(of("--cpu=x --cpu x").notes.is_empty());
    }

    #[test]
    fn a_value_may_begin_with_a_dash_but_is_no_option() {
        assert_eq!(of("--loglevel -5").front, ["--loglevel=-5"]);
        assert_eq!(
            of("--box --box-memory 8G").front,
            ["--box", "--box-memory=8G"]
        );
        let read = of("--box -- --description d");
        assert_eq!(read.front, ["--box"]);
        assert!(read.build_args.is_some());
    }

    #[test]
    fn an_empty_value_is_none() {
        let read = of("--profile= --type  --box b");
        assert_eq!(read.front, ["--box=b"]);
        assert_eq!(read.notes.len(), 2);
        // boxbuild's own options say what they expect.
        assert_eq!(of("--engine=").front, ["--engine="]);
    }

    #[test]
    fn commands_of_kiwi_ng_are_seen_behind_its_options() {
        for (line, other) in [
            ("--debug system build --description d", "system build"),
            ("--profile X image info --description d", "image info"),
            ("result list", "result list"),
            ("system", "system"),
            ("system --help", "system"),
            (
                "--loglevel 10 system stackbuild --stash x",
                "system stackbuild",
            ),
        ] {
            assert_eq!(of(line).other.as_deref(), Some(other), "{line}");
        }
        for line in [
            "system boxbuild --box b -- image info",
            "system --debug boxbuild --box b",
            "--box image",
            "box info system",
            "--box b kiwi --description d",
        ] {
            assert_eq!(of(line).other, None, "{line}");
        }
    }

    #[test]
    fn questions_to_kiwi_ng_itself_are_seen() {
        for line in ["--version", "-v", "--debug --help"] {
            assert!(of(line).aside, "{line}");
        }
        for line in [
            "system boxbuild --help",
            "box --help",
            "--box b -v -- --description d",
            "--box b -- --version",
        ] {
            assert!(!of(line).aside, "{line}");
        }
    }
}
