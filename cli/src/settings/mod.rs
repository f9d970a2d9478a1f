//! Settings: what files and environment variables say where a command line says nothing.
//!
//! | | counts before the next |
//! |---|---|
//! | the command line; a batch file for its builds | |
//! | `BOXBUILD_…` | [`environment`] |
//! | the project's `boxbuild.toml` | in the working folder or above it, within the repository ([`find`]); it says little ([`project`]) |
//! | the user's `~/.config/boxbuild.toml` | |
//!
//! Which settings there are follows from the command line ([`names`]). They become words of it
//! ([`apply`]), so that all else is checked and shown as if it had been typed.

mod apply;
mod effective;
mod environment;
mod error;
mod file;
mod find;
mod given;
mod names;
mod origin;
mod project;

#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

pub(crate) use apply::{Applied, Caller};
pub(crate) use effective::{Effective, LeftOut};
pub(crate) use error::SettingsError;
pub(crate) use find::{Candidate, State};
pub(crate) use given::Given;
pub(crate) use names::{Place, Setting};
pub(crate) use origin::{Layer, Origin};

use crate::args;
use error::Wrong;

/// The option that leaves settings files out.
pub(crate) const NO_FILES: &str = "--no-config";

/// The first word of a command line that is complete: nothing is added to it.
pub(crate) const COMPLETE: &str = "--without-settings";

/// Commands that do without settings: broken ones must not keep a user from their help.
///
/// A worker has what the batch sends it: settings of its host would make another build of it.
const WITHOUT: &[&str] = &[
    "complete",
    "completions",
    "config",
    "generate",
    "help",
    "worker",
];

/// The settings of this process.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    all: Vec<Setting>,
    given: Vec<Given>,
    candidates: Vec<Candidate>,
    notes: Vec<String>,
    /// The user's file.
    own: Option<(PathBuf, String)>,
    /// Files are left out.
    pub(crate) no_files: bool,
}

/// Reads the settings for a command line, and puts them into it.
///
/// # Errors
/// Fails if a file cannot be used, or what it or a variable says is wrong.
pub(crate) fn of(mut argv: Vec<OsString>) -> Result<(Settings, Applied), SettingsError> {
    if argv.first().is_some_and(|word| word == COMPLETE) {
        argv.remove(0);
        return Ok((Settings::default(), Applied::plain(argv)));
    }
    let mut no_files = take_no_files(&mut argv);
    let outline = args::outline(&argv);
    // Also behind a word that only looks like the separator.
    let mut known = outline.iter().flat_map(|outline| &outline.given);
    no_files |= known.any(|name| NO_FILES.strip_prefix("--") == Some(name.as_str()));
    let outline = outline.filter(|outline| {
        !argv.is_empty() && !outline.asks_for_help && !WITHOUT.contains(&outline.command.as_str())
    });
    let Some(outline) = outline else {
        let settings = Settings {
            no_files,
            ..Settings::default()
        };
        return Ok((settings, Applied::plain(argv)));
    };
    let settings = Settings::load(no_files)?;
    let mut applied = apply::apply(&settings.all, &settings.given, argv, &outline, Caller::User);
    applied.notes.splice(0..0, settings.notes.iter().cloned());
    Ok((settings, applied))
}

impl Settings {
    /// Reads them; without files if `no_files`, or if a variable says so.
    ///
    /// # Errors
    /// Fails if a file cannot be used, or what it or a variable says is wrong.
    pub(crate) fn load(no_files: bool) -> Result<Settings, SettingsError> {
        let all = names::all();
        let here = std::env::current_dir().ok();
        let environment = environment::read(&all, std::env::vars_os(), here.as_deref());
        let mut settings = Settings {
            given: environment.given,
            notes: environment.notes,
            ..Settings::default()
        };
        let mut wrong: Vec<Wrong> = settings.given.iter().filter_map(wrong_value).collect();
        wrong.extend(environment.wrong);
        if !no_files && !environment.no_config {
            settings.candidates = find::candidates(here.as_deref())?;
        }
        for candidate in &settings.candidates {
            match candidate.state {
                State::Missing => {}
                State::LeftOut(why) => {
                    let path = boxbuild_host::text::shown_path(&candidate.path);
                    settings.notes.push(format!("{path}: {why}"));
                }
                State::Used => {
                    let path = &candidate.path;
                    let contents = file::read(&all, candidate.layer, path)?;
                    settings.given.extend(contents.given);
                    wrong.extend(contents.wrong);
                    if candidate.layer == Layer::User {
                        settings.own = Some((path.clone(), contents.text));
                    }
                }
            }
        }
        if !wrong.is_empty() {
            return Err(SettingsError::Wrong(wrong));
        }
        settings.all = all;
        Ok(settings)
    }

    /// Puts them into the command line of a build of a batch. Nothing else is added to it: it is to be
    /// run with [`COMPLETE`] before it.
    pub(crate) fn complete(&self, argv: Vec<OsString>) -> Applied {
        match args::outline(&argv) {
            Some(outline) => apply::apply(&self.all, &self.given, argv, &outline, Caller::Batch),
            None => Applied::plain(argv),
        }
    }

    /// Returns what counts for the command at `place`, and what a project's file may not change.
    pub(crate) fn effective(&self, place: &Place) -> (Vec<Effective>, Vec<LeftOut>) {
        effective::effective(&self.all, &self.given, place)
    }

    /// All settings there are.
    pub(crate) fn all(&self) -> &[Setting] {
        &self.all
    }

    /// The files, and where they would be.
    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// What the user should know of them.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads the table `name` of the user's file, which has a form of its own; `None` if it is not
    /// there. A project's file has none.
    ///
    /// # Errors
    /// Fails if it is not what `T` has; the message has the file and the line.
    pub(crate) fn own_table<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
    ) -> Result<Option<T>, SettingsError> {
        let Some((path, text)) = &self.own else {
            return Ok(None);
        };
        table(path, text, name)
    }
}

/// Reads the table `name` of the settings file `text`.
fn table<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &str,
    name: &str,
) -> Result<Option<T>, SettingsError> {
    debug_assert!(file::OWN_TABLES.contains(&name));
    let wrong = |error: &toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        SettingsError::Wrong(vec![Wrong {
            origin: Origin::File {
                layer: Layer::User,
                path: path.to_owned(),
                line: file::line_of(text, at),
            },
            message: format!("{name}: {}", error.message()),
        }])
    };
    let whole = toml::de::DeTable::parse(text).map_err(|error| wrong(&error))?;
    let value = whole.get_ref().get(name).cloned();
    value
        .map(|value| {
            let read = toml::de::ValueDeserializer::from(value);
            T::deserialize(read).map_err(|error| wrong(&error))
        })
        .transpose()
}

impl Applied {
    /// A command line that stays as it is.
    fn plain(argv: Vec<OsString>) -> Applied {
        Applied {
            argv,
            ..Applied::default()
        }
    }
}

/// Takes `--no-config` out of a command line, before the separator. Returns whether it was there.
fn take_no_files(argv: &mut Vec<OsString>) -> bool {
    let separator = [OsStr::new("--"), OsStr::new("kiwi")];
    let end = argv
        .iter()
        .position(|word| separator.contains(&word.as_os_str()));
    let before = argv.len();
    let mut at = 0;
    argv.retain(|word| {
        let front = end.is_none_or(|end| at < end);
        at += 1;
        !(front && word == NO_FILES)
    });
    argv.len() < before
}

fn wrong_value(given: &Given) -> Option<Wrong> {
    let message = given.problem()?;
    let origin = given.origin.clone();
    Some(Wrong { origin, message })
}
