//! A value that is given for an option.

use std::ffi::OsString;
use std::path::Path;

use boxbuild_host::secret;
use clap::error::ErrorKind;

use super::names::{Place, Setting};
use super::origin::Origin;
use crate::args;
use crate::output::print::usage_error;
use boxbuild_core::build_args::BuildArgs;

/// What a setting says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A flag, given or not; or an option whose value may be left out, without one.
    Flag(bool),
    /// Values. None means that the option is not given, whatever other files say.
    Words(Vec<OsString>),
}

/// A setting with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) setting: Setting,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

impl Value {
    /// Makes paths absolute: they are relative to `folder`, and `~/` is the folder `home`, if it is
    /// known.
    pub(super) fn with_paths(self, setting: &Setting, folder: &Path, home: Option<&Path>) -> Value {
        let words = match self {
            Value::Words(words) if setting.is_path => words,
            other => return other,
        };
        let whole = |word: OsString| {
            // stdout is a word of --logfile.
            if word.is_empty() || word == "stdout" {
                return word;
            }
            match (Path::new(&word).strip_prefix("~"), home) {
                (Ok(below), Some(home)) => home.join(below).into_os_string(),
                _ => folder.join(&word).into_os_string(),
            }
        };
        Value::Words(words.into_iter().map(whole).collect())
    }
}

impl Given {
    /// Whether the option is given at all.
    pub(super) fn is_on(&self) -> bool {
        match &self.value {
            Value::Flag(on) => *on,
            Value::Words(words) => !words.is_empty(),
        }
    }

    /// Returns the words of a command line that say the same.
    pub(super) fn words(&self) -> Vec<OsString> {
        let name = &self.setting.name;
        match &self.value {
            Value::Flag(true) => vec![format!("--{name}").into()],
            Value::Flag(false) => Vec::new(),
            Value::Words(words) => {
                let word = |value: &OsString| {
                    let mut word = OsString::from(format!("--{name}="));
                    word.push(value);
                    word
                };
                words.iter().map(word).collect()
            }
        }
    }

    /// Returns the value for people, without secrets.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Flag(on) => on.to_string(),
            Value::Words(_) => {
                let start = self.setting.name.len() + "--=".len();
                let words = secret::redact_words(&self.words());
                let values = words
                    .iter()
                    .map(|word| word.get(start..).unwrap_or_default());
                values.collect::<Vec<_>>().join(" ")
            }
        }
    }

    /// Returns the value for programs, without secrets.
    pub(crate) fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Flag(on) => (*on).into(),
            Value::Words(words) if words.len() == 1 && self.setting.is_single() => {
                self.shown().into()
            }
            Value::Words(words) => {
                let one = |word: &OsString| {
                    let value = Value::Words(vec![word.clone()]);
                    let one = Given {
                        value,
                        ..self.clone()
                    };
                    serde_json::Value::from(one.shown())
                };
                words.iter().map(one).collect()
            }
        }
    }

    /// Returns what is wrong with the value by itself, as the command line has it.
    pub(super) fn problem(&self) -> Option<String> {
        let words = self.words();
        if words.is_empty() {
            return None;
        }
        let text = match &self.setting.place {
            Place::BuildArgs => {
                let mut line: Vec<OsString> =
                    vec!["--description=x".into(), "--target-dir=y".into()];
                line.retain(|word| !word.to_string_lossy()[2..].starts_with(&self.setting.name));
                line.extend(words);
                BuildArgs::parse(&line).err()?.to_string()
            }
            place => {
                let command = match place {
                    Place::Command(name) => name.as_str(),
                    _ => "",
                };
                let command = command.split_whitespace().map(OsString::from);
                let line = command.chain(words);
                let error = args::parse(line).err()?;
                // What it needs beside it, or cannot have there, is known with the others only.
                let alone = [
                    ErrorKind::MissingRequiredArgument,
                    ErrorKind::MissingSubcommand,
                    ErrorKind::ArgumentConflict,
                ];
                if alone.contains(&error.kind()) || !error.use_stderr() {
                    return None;
                }
                usage_error(&error).0
            }
        };
        Some(format!("{}: {text}", self.setting))
    }
}
