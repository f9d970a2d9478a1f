//! The tables `options` and `build-args`: which options they may have.

use std::fmt;

use boxbuild_core::build_args::{self, BuildArgs, BuildArgsError};
use boxbuild_host::nearest::{TYPO, nearest};
use clap::CommandFactory;

use crate::args;

/// Options that have a key of their own in a batch file: the option, the key.
const OWN_KEYS: &[(&str, &str)] = &[
    ("box", "box"),
    ("arch", "arch"),
    ("x86_64", "arch"),
    ("aarch64", "arch"),
    ("profile", "profile"),
    ("type", "type"),
    ("description", "description"),
    ("target-dir", "target-dir"),
];

/// Options that make no sense for a build of a batch, which has no terminal of its own.
const NOT_IN_A_BATCH: &[&str] = &[
    "box-debug",
    "dry-run",
    "json",
    "verbose",
    "list-boxes",
    "no-config",
    "help",
    "version",
];

/// A table of options in a batch file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// Options of boxbuild.
    Options,
    /// Options of `kiwi-ng system build`.
    BuildArgs,
    /// Options of `boxbuild test`.
    Test,
}

impl Table {
    /// Returns why the option `name`, without its dashes, cannot stand in this table.
    pub(super) fn problem_with(self, name: &str) -> Option<String> {
        let dashed = format!("--{name}");
        if self == Table::Test {
            return problem_with_test(name);
        }
        let own = OWN_KEYS.iter().find(|(option, _)| *option == name);
        Some(if let Some((_, key)) = own {
            format!("{self}.{name}: write it as {key} = \"…\"")
        } else if NOT_IN_A_BATCH.contains(&name) {
            format!("{self}.{name}: not for a build of a batch")
        } else if self.has(&dashed) {
            return None;
        } else if self.other().has(&dashed) {
            format!("{self}.{name}: this option belongs in {}", self.other())
        } else if name.starts_with('-') {
            format!("{self}.{name}: write the option without the dashes")
        } else {
            let hint = self
                .nearest(name)
                .map_or_else(String::new, |near| format!("; did you mean {near}?"));
            format!("{self}.{name}: there is no option {dashed}{hint}")
        })
    }

    /// Its key in the batch file.
    pub(super) fn key(self) -> &'static str {
        match self {
            Table::Options => "options",
            Table::BuildArgs => "build-args",
            Table::Test => "test",
        }
    }

    fn other(self) -> Table {
        match self {
            Table::Options => Table::BuildArgs,
            Table::BuildArgs | Table::Test => Table::Options,
        }
    }

    /// Returns whether the table may have an option, named with its dashes.
    fn has(self, option: &str) -> bool {
        match self {
            Table::Options => args::is_option(option),
            Table::BuildArgs => build_args::is_option(option),
            Table::Test => false,
        }
    }

    /// Returns the option that was probably meant, without its dashes.
    fn nearest(self, name: &str) -> Option<String> {
        match self {
            Table::Options => {
                let command = args::Cli::command();
                let known = command.get_arguments().filter_map(|arg| arg.get_long());
                nearest(name, known, TYPO).map(str::to_owned)
            }
            Table::BuildArgs => match BuildArgs::parse(&[format!("--{name}").into()]) {
                Err(BuildArgsError::Unknown { nearest, .. }) => {
                    nearest.map(|option| option.trim_start_matches('-').to_owned())
                }
                _ => None,
            },
            Table::Test => None,
        }
    }
}

/// Returns why `boxbuild test` cannot have the option `name` in a batch.
fn problem_with_test(name: &str) -> Option<String> {
    const NOT_HERE: [&str; 5] = ["json", "verbose", "dry-run", "help", "version"];
    let command = args::Cli::command();
    let test = command.find_subcommand("test")?;
    let known: Vec<&str> = test
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .collect();
    if NOT_HERE.contains(&name) {
        Some(format!("test.{name}: not for a test of a batch"))
    } else if known.contains(&name) {
        None
    } else {
        let hint = nearest(name, known.iter().copied(), TYPO)
            .map_or_else(String::new, |near| format!("; did you mean {near}?"));
        Some(format!(
            "test.{name}: 'boxbuild test' has no option --{name}{hint}"
        ))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}
