//! The options that can be set in a settings file or by a variable: generated from the command line, so
//! that none is forgotten.

use std::fmt;

use boxbuild_core::build_args;
use clap::{Arg, ArgAction};

use crate::args;

/// Beginning of the names of variables.
pub(super) const PREFIX: &str = "BOXBUILD_";

/// The variable for `--no-config`.
pub(super) const NO_CONFIG: &str = "BOXBUILD_NO_CONFIG";

/// Options that are no settings.
const NOT_SET: &[&str] = &["help", "version", "no-config"];

/// Options of one run: a variable may give them, a file would change every run.
const OF_ONE_RUN: &[&str] = &[
    "all",
    "box-debug",
    "description",
    "dry-run",
    "force",
    "json",
    "junit",
    "list-boxes",
    "matrix",
    "target-dir",
];

/// Commands without settings of their own.
// `run` and `test` are about one image each; and BOXBUILD_TEST_… are variables of the test suite.
const WITHOUT: &[&str] = &[
    "complete",
    "completions",
    "config",
    "generate",
    "help",
    "run",
    "test",
];

/// Options of a build that mean the same for other commands that have them.
const SHARED: &[&str] = &[
    "box-memory",
    "color-output",
    "config",
    "debug",
    "engine",
    "kiwi-file",
    "lock-file",
    "locked",
    "loglevel",
    "network",
    "no-update-check",
    "offline",
    "profile",
    "require-confinement",
    "setenv",
    "shared-path",
    "signed-by",
    "target-arch",
    "type",
];

/// Commands that take them.
const TAKE_SHARED: &[&str] = &["check", "info", "box pull", "box import"];

/// Whose option it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A build's, before the separator.
    Build,
    /// Of `kiwi-ng system build`, after it.
    BuildArgs,
    /// A command's: its words, with blanks between them.
    Command(String),
}

/// What values an option has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// None.
    Flag,
    /// One; `optional` if it may stand without.
    One { optional: bool },
    /// `yes` or `no`.
    YesNo,
    /// Any number.
    Many,
}

/// An option that can be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) place: Place,
    /// Its name, without dashes.
    pub(crate) name: String,
    pub(super) kind: Kind,
    /// Its value is a file or folder of this host.
    pub(super) is_path: bool,
    /// What counts if nothing is given.
    pub(crate) default: Option<String>,
}

impl Place {
    /// The table in a settings file; `None` for its top.
    pub(super) fn table(&self) -> Option<String> {
        match self {
            Place::Build => None,
            Place::BuildArgs => Some(String::from("build-args")),
            Place::Command(words) => Some(words.replace(' ', "-")),
        }
    }

    /// Whether its options also count for the command `other`.
    pub(super) fn is_shared_with(&self, other: &Place) -> bool {
        let takes = |name: &String| TAKE_SHARED.contains(&name.as_str());
        *self == Place::Build && matches!(other, Place::Command(name) if takes(name))
    }
}

impl Setting {
    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        let words = match &self.place {
            Place::Command(command) => format!("{command} {}", self.name),
            _ => self.name.clone(),
        };
        format!(
            "{PREFIX}{}",
            words.replace(['-', ' '], "_").to_ascii_uppercase()
        )
    }

    /// Whether a file may have it.
    pub(super) fn is_of_one_run(&self) -> bool {
        OF_ONE_RUN.contains(&self.name.as_str())
    }

    /// Whether it has one value at most.
    pub(super) fn is_single(&self) -> bool {
        self.kind != Kind::Many
    }

    /// Whether it also counts for commands other than a build.
    pub(super) fn is_shared(&self) -> bool {
        SHARED.contains(&self.name.as_str())
    }

    fn of(arg: &Arg, place: Place) -> Option<Setting> {
        let name = arg.get_long().filter(|name| !NOT_SET.contains(name))?;
        let values = arg.get_possible_values();
        let yes_no = ["yes", "no"]
            .iter()
            .all(|word| values.iter().any(|value| value.matches(word, false)));
        let optional = arg
            .get_num_args()
            .is_some_and(|range| range.min_values() == 0);
        let kind = match arg.get_action() {
            ArgAction::SetTrue => Kind::Flag,
            ArgAction::Append => Kind::Many,
            _ if yes_no => Kind::YesNo,
            _ => Kind::One { optional },
        };
        let of_host = |value: &str| ["FILE", "DIR", "SOCKET", "DIR|TAR"].contains(&value);
        let value_names = arg.get_value_names().unwrap_or_default();
        // A name in ~/.ssh, a name in the description, a folder in the box.
        let elsewhere = ["ssh-key", "kiwi-file", "temp-dir"].contains(&name);
        let default = arg.get_default_values().first();
        let default = default.filter(|_| kind != Kind::Flag);
        Some(Setting {
            place,
            name: name.to_owned(),
            kind,
            is_path: value_names.iter().any(|value| of_host(value)) && !elsewhere,
            default: default.map(|value| value.to_string_lossy().into_owned()),
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.table() {
            Some(table) => write!(f, "{table}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// Returns all settings: of a build, of its build arguments, of other commands.
pub(crate) fn all() -> Vec<Setting> {
    let mut command = args::command();
    command.build();
    let mut found = of_command(&command, &Place::Build);
    found.extend(build_args::names().map(|option| {
        let name = option.trim_start_matches('-');
        Setting {
            place: Place::BuildArgs,
            name: name.to_owned(),
            kind: match build_args::value_of(option) {
                Some(build_args::Value::Repeat) => Kind::Many,
                Some(build_args::Value::Once) => Kind::One { optional: false },
                _ => Kind::Flag,
            },
            is_path: ["ca-cert", "signing-key", "description", "target-dir"].contains(&name),
            default: None,
        }
    }));
    collect(&command, "", &mut found);
    found
}

fn collect(command: &clap::Command, path: &str, found: &mut Vec<Setting>) {
    for sub in command.get_subcommands() {
        let name = sub.get_name();
        if path.is_empty() && WITHOUT.contains(&name) {
            continue;
        }
        let path = match path {
            "" => name.to_owned(),
            path => format!("{path} {name}"),
        };
        if sub.has_subcommands() {
            // Its own options are its subcommands', too.
            collect(sub, &path, found);
        } else {
            found.extend(of_command(sub, &Place::Command(path)));
        }
    }
}

fn of_command(command: &clap::Command, place: &Place) -> Vec<Setting> {
    let args = command.get_arguments();
    args.filter_map(|arg| Setting::of(arg, place.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_option_has_one_variable_and_one_key() {
        let all = all();
        let mut variables = BTreeMap::new();
        for setting in &all {
            let other = variables.insert(setting.variable(), setting);
            assert!(other.is_none(), "{setting} and {}", other.unwrap());
        }
        let command = args::command();
        for arg in command.get_arguments() {
            let long = arg.get_long().unwrap();
            let known = all
                .iter()
                .any(|setting| setting.place == Place::Build && setting.name == long);
            assert!(known || NOT_SET.contains(&long), "--{long}");
        }
        for name in build_args::names() {
            let known = all.iter().any(|setting| {
                setting.place == Place::BuildArgs && format!("--{}", setting.name) == name
            });
            assert!(known, "{name}");
        }
        for (table, name) in [
            ("batch", "jobs"),
            ("box-create", "mirror"),
            ("check", "box"),
        ] {
            let known = all.iter().any(|setting| {
                setting.place.table().as_deref() == Some(table) && setting.name == name
            });
            assert!(known, "{table}.{name}");
        }
        assert!(variables.contains_key("BOXBUILD_BOX_MEMORY"));
        assert!(variables.contains_key("BOXBUILD_BOX_CREATE_MIRROR"));
        assert!(!variables.contains_key(NO_CONFIG));
    }

    #[test]
    fn what_is_listed_by_name_exists() {
        let all = all();
        for name in OF_ONE_RUN.iter().chain(SHARED) {
            assert!(all.iter().any(|setting| setting.name == *name), "{name}");
        }
        for name in TAKE_SHARED {
            let place = Place::Command((*name).to_owned());
            assert!(all.iter().any(|setting| setting.place == place), "{name}");
        }
    }

    #[test]
    fn options_have_their_kinds() {
        let all = all();
        let kind = |name: &str| {
            all.iter()
                .find(|setting| setting.name == name)
                .unwrap()
                .kind
        };
        assert_eq!(kind("offline"), Kind::Flag);
        assert_eq!(kind("allow"), Kind::Many);
        assert_eq!(kind("keep-failed"), Kind::YesNo);
        assert_eq!(kind("timings"), Kind::One { optional: true });
        assert_eq!(kind("box-memory"), Kind::One { optional: false });
        assert_eq!(kind("add-repo"), Kind::Many);
        assert_eq!(kind("ignore-repos"), Kind::Flag);
        let paths: Vec<&str> = all
            .iter()
            .filter(|setting| setting.is_path && setting.place == Place::Build)
            .map(|setting| setting.name.as_str())
            .collect();
        for name in [
            "signed-by",
            "lock-file",
            "shared-path",
            "logfile",
            "logsocket",
            "config",
        ] {
            assert!(paths.contains(&name), "{name}: {paths:?}");
        }
    }
}
