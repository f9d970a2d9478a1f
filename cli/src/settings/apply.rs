//! Settings become words of a command line, where that leaves something out.

use std::ffi::OsString;

use super::effective::{LeftOut, effective};
use super::given::Given;
use super::names::{Place, Setting};
use super::origin::Layer;
use crate::args::{self, Outline};

/// Options that say something about the same: of these, only those from one place count.
const TOGETHER: &[&[&str]] = &[
    &["arch", "x86_64", "aarch64", "target-arch"],
    &["engine", "no-accel"],
    &[
        "only-repo",
        "ignore-repos",
        "ignore-repos-used-for-build",
        "set-repo",
        "set-repo-credentials",
        "add-repo",
        "add-repo-credentials",
    ],
];

/// Options that mean nothing without another one: the command, the option, the other one.
const NEEDS: &[(&str, &str, &str)] = &[
    ("", "lock-file", "locked"),
    ("", "rootless", "container"),
    ("batch", "runner-config", "runner"),
    ("box pull", "lock-file", "locked"),
    ("check", "container", "box"),
    ("check", "lock-file", "locked"),
    ("check", "rootless", "container"),
];

/// Options of a machine, which a container does not have.
const OF_A_MACHINE: &[&str] = &[
    "boot",
    "box-console",
    "box-memory",
    "box-smp-cpus",
    "cpu",
    "disk-size",
    "engine",
    "machine",
    "no-accel",
    "no-snapshot",
    "ssh-port",
];

/// Options that a build of a batch does not take: the batch has them, or the file.
const NOT_IN_A_BATCH: &[&str] = &[
    "box-debug",
    "description",
    "dry-run",
    "json",
    "list-boxes",
    "target-dir",
    "verbose",
];

/// An option that takes a right away stays, whatever it contradicts: the user is told.
const STAYS: &str = "require-confinement";

/// Whose command line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    /// The user's.
    User,
    /// A batch's, for one of its builds.
    Batch,
}

/// A command line with the settings in it.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) argv: Vec<OsString>,
    /// The settings that are in it.
    pub(crate) used: Vec<Given>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// Puts what counts of `given` into the command line `argv`, whose outline is `outline`.
pub(super) fn apply(
    all: &[Setting],
    given: &[Given],
    argv: Vec<OsString>,
    outline: &Outline,
    caller: Caller,
) -> Applied {
    let place = match outline.command.as_str() {
        "" => Place::Build,
        command => Place::Command(command.to_owned()),
    };
    let mut applied = Applied::default();
    let mut used = applied.choose(all, given, &place, outline, caller);
    let mut front: Vec<OsString> = used.iter().flat_map(Given::words).collect();
    applied.argv = argv;
    // From behind, so that places stay as they are.
    if let Some(at) = outline.build_args_at
        && ["", "check"].contains(&outline.command.as_str())
    {
        let of_kiwi = applied.choose(all, given, &Place::BuildArgs, outline, caller);
        let words: Vec<OsString> = of_kiwi.iter().flat_map(Given::words).collect();
        applied.argv.splice(at..at, words);
        used.extend(of_kiwi);
    } else if outline.command == "check" {
        let of_kiwi = applied.choose(all, given, &Place::BuildArgs, outline, caller);
        if !of_kiwi.is_empty() {
            applied.argv.push("--".into());
            applied.argv.extend(of_kiwi.iter().flat_map(Given::words));
            used.extend(of_kiwi);
        }
    }
    let at = outline.options_at;
    applied.argv.splice(at..at, front.drain(..));
    applied.used = used;
    applied.note_project();
    applied
}

impl Applied {
    /// Returns the settings at `place` that the command line leaves out.
    fn choose(
        &mut self,
        all: &[Setting],
        given: &[Given],
        place: &Place,
        outline: &Outline,
        caller: Caller,
    ) -> Vec<Given> {
        let typed = match place {
            Place::BuildArgs => &outline.given_build_args,
            _ => &outline.given,
        };
        let (found, left_out) = effective(all, given, place);
        for LeftOut { given, why } in left_out {
            self.notes
                .push(format!("{}: {}: {why}", given.origin, given.setting));
        }
        let mut wanted: Vec<Given> = found
            .into_iter()
            .map(|found| found.given)
            .filter(|given| given.is_on() && !typed.contains(&given.setting.name))
            .filter(|given| {
                let in_batch = NOT_IN_A_BATCH.contains(&given.setting.name.as_str());
                caller == Caller::User || !in_batch
            })
            // As build arguments they are always given.
            .filter(|given| {
                let name = given.setting.name.as_str();
                *place != Place::BuildArgs
                    || outline.command.is_empty()
                    || !["description", "target-dir"].contains(&name)
            })
            .collect();
        wanted.sort_by_key(|given| given.origin.layer());
        let rivals = Rivals::of(place);
        let mut chosen: Vec<Given> = Vec::new();
        for given in wanted {
            let name = &given.setting.name;
            let before = |other: &Given| other.origin.layer() < given.origin.layer();
            let stands_back = typed.iter().any(|other| rivals.exclude(name, other))
                || chosen
                    .iter()
                    .any(|other| before(other) && rivals.exclude(name, &other.setting.name));
            if !stands_back {
                chosen.push(given);
            }
        }
        let has = |chosen: &[Given], name: &str| {
            typed.iter().any(|typed| typed == name)
                || chosen.iter().any(|given| given.setting.name == name)
        };
        let needed = |given: &Given| {
            let mut needs = NEEDS.iter();
            let found = needs.find(|(command, name, _)| {
                *command == outline.command && given.setting.name == *name
            });
            found.map(|(_, _, other)| *other)
        };
        // What one needs may need another one.
        for _ in 0..NEEDS.len() {
            let before = chosen.clone();
            chosen.retain(|given| needed(given).is_none_or(|other| has(&before, other)));
        }
        if *place == Place::Build && has(&chosen, "container") {
            chosen.retain(|given| !OF_A_MACHINE.contains(&given.setting.name.as_str()));
        }
        chosen
    }

    /// Says what a project's file has decided.
    fn note_project(&mut self) {
        let of_project = |given: &&Given| given.origin.layer() == Layer::Project;
        let mut names: Vec<String> = Vec::new();
        let mut place = None;
        for given in self.used.iter().filter(of_project) {
            names.push(given.setting.to_string());
            place.get_or_insert_with(|| given.origin.file());
        }
        if let Some(Some(path)) = place {
            self.notes
                .push(format!("settings of {path}: {}", names.join(", ")));
        }
    }

    /// Returns where the settings come from whose options `message` names.
    pub(crate) fn named_in(&self, message: &str) -> Option<String> {
        let is_named = |given: &&Given| {
            let option = format!("--{}", given.setting.name);
            let mut places = message.match_indices(&option);
            places.any(|(at, _)| {
                let next = message[at + option.len()..].chars().next();
                next.is_none_or(|next| !next.is_alphanumeric() && next != '-')
            })
        };
        let named: Vec<String> = self
            .used
            .iter()
            .filter(is_named)
            .map(|given| format!("--{} comes from {}", given.setting.name, given.origin))
            .collect();
        (!named.is_empty()).then(|| named.join("; "))
    }
}

/// Whether the option `name` of `command` means nothing without another one.
#[cfg(test)]
pub(super) fn needs_another(command: &str, name: &str) -> bool {
    NEEDS
        .iter()
        .any(|(of, option, _)| *of == command && *option == name)
}

/// Which options stand back before others.
struct Rivals {
    /// Pairs that clap does not take together.
    pairs: Vec<(String, String)>,
}

impl Rivals {
    fn of(place: &Place) -> Rivals {
        let mut pairs = Vec::new();
        let mut top = args::command();
        top.build();
        let command = match place {
            Place::Build => Some(&top),
            Place::BuildArgs => None,
            Place::Command(words) => words
                .split(' ')
                .try_fold(&top, |command, word| command.find_subcommand(word)),
        };
        let args = command.into_iter().flat_map(clap::Command::get_arguments);
        for arg in args {
            let others = command.map(|command| command.get_arg_conflicts_with(arg));
            for other in others.into_iter().flatten() {
                if let (Some(one), Some(two)) = (arg.get_long(), other.get_long()) {
                    pairs.push((one.to_owned(), two.to_owned()));
                    pairs.push((two.to_owned(), one.to_owned()));
                }
            }
        }
        Rivals { pairs }
    }

    /// Whether `name` stands back before `other`.
    fn exclude(&self, name: &str, other: &str) -> bool {
        let together = |group: &[&str]| group.contains(&name) && group.contains(&other);
        name != other
            && name != STAYS
            && (TOGETHER.iter().any(|group| together(group))
                || self
                    .pairs
                    .iter()
                    .any(|(one, two)| one == name && two == other))
    }
}
