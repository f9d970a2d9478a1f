//! The options of `kiwi-ng system build`, checked before anything is started.
//!
//! The set is that of KIWI 10.3 and 11.1 (`kiwi-ng system build --help`).

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::nearest::{TYPO, nearest};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::host_paths::Named;
use crate::host_values::{Bases, translate};

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// The option is a flag.
    None,
    /// A value; the option may stand once.
    Once,
    /// A value; the option may be repeated.
    Repeat,
}

const OPTIONS: &[(&str, Value)] = &[
    ("--description", Value::Once),
    ("--target-dir", Value::Once),
    ("--allow-existing-root", Value::None),
    ("--clear-cache", Value::None),
    ("--ignore-repos", Value::None),
    ("--ignore-repos-used-for-build", Value::None),
    (ONLY_REPO, Value::Repeat),
    ("--set-repo", Value::Once),
    ("--set-repo-credentials", Value::Once),
    ("--add-repo", Value::Repeat),
    ("--add-repo-credentials", Value::Repeat),
    ("--add-package", Value::Repeat),
    ("--add-bootstrap-package", Value::Repeat),
    ("--ca-cert", Value::Repeat),
    ("--ca-target-distribution", Value::Once),
    ("--delete-package", Value::Repeat),
    ("--set-container-derived-from", Value::Once),
    ("--set-container-tag", Value::Once),
    ("--add-container-label", Value::Repeat),
    ("--set-type-attr", Value::Repeat),
    ("--set-release-version", Value::Once),
    ("--signing-key", Value::Repeat),
];

/// Leaves out the repositories of the description.
pub(crate) const IGNORE_REPOS: &str = "--ignore-repos";

/// The one option that kiwi does not have: `--ignore-repos --add-repo SOURCE`.
const ONLY_REPO: &str = "--only-repo";

const CA_TARGETS: [&str; 4] = ["suse", "redhat", "debian", "archlinux"];

/// All options of `kiwi-ng system build`.
pub fn names() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// What follows the option `name`; `None` if there is no such option.
pub fn value_of(name: &str) -> Option<Value> {
    let found = OPTIONS.iter().find(|(option, _)| *option == name)?;
    Some(found.1)
}

/// Whether `name` is an option of `kiwi-ng system build`.
pub fn is_option(name: &str) -> bool {
    OPTIONS.iter().any(|(option, _)| *option == name)
}

/// The option of `kiwi-ng system build` whose name begins with `typed`, if there is only one: KIWI before
/// 11 takes these for the option.
pub fn beginning_with(typed: &str) -> Option<&'static str> {
    let mut found = OPTIONS.iter().filter(|(option, _)| {
        typed.len() > "--".len() && typed.starts_with("--") && option.starts_with(typed)
    });
    let (option, _) = found.next()?;
    found.next().is_none().then_some(option)
}

/// Arguments of `kiwi-ng system build`, understood as far as boxbuild needs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildArgs {
    /// The value of `--description`.
    pub description: PathBuf,
    /// The value of `--target-dir`.
    pub target_dir: PathBuf,
    /// All other options in their order, as `--option`, `value` words; paths of the host are
    /// absolute.
    pub rest: Vec<OsString>,
    /// Paths of the host in them.
    pub host_paths: Vec<Named>,
    /// What the user should know of how they were read.
    pub notes: Vec<String>,
}

/// The build arguments are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildArgsError {
    /// No such option.
    #[error("'kiwi-ng system build' has no option {option}{}", hint(.nearest))]
    Unknown {
        /// The word, as typed.
        option: String,
        /// The option that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A word that is no option.
    #[error("unexpected word '{0}' among the build options: options start with --")]
    Word(String),
    /// The value is missing.
    #[error("the build option {0} needs a value")]
    NoValue(&'static str),
    /// A flag with a value.
    #[error("the build option {0} takes no value")]
    UnexpectedValue(&'static str),
    /// A required option is missing.
    #[error("the build option {0} is missing: put it after --")]
    Missing(&'static str),
    /// A second separator.
    #[error("a second -- is among the build options: leave it out")]
    Separator,
    /// A value of another form than kiwi reads.
    #[error("{option} '{given}': {form} is expected")]
    BadForm {
        /// Name of the option.
        option: &'static str,
        /// What was typed, as far as it is no secret.
        given: String,
        /// What kiwi reads.
        form: &'static str,
    },
    /// A value that kiwi refuses.
    #[error("{value} is not a value of {option} (known: {known})")]
    BadValue {
        /// Name of the option.
        option: &'static str,
        /// The word, as typed.
        value: String,
        /// The values there are.
        known: String,
    },
}

impl Classify for BuildArgsError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(option) => format!("; did you mean {option}?"),
        None => String::from("; 'boxbuild help build-args' lists them"),
    }
}

impl BuildArgs {
    /// Reads the words behind the separator. Of an option that is given more than once, the last counts,
    /// as in kiwi-ng.
    pub fn parse(words: &[OsString]) -> Result<BuildArgs, BuildArgsError> {
        let mut notes = Vec::new();
        let given = last_wins(split(words, &mut notes)?, &mut notes);
        let given = without_empty(given, &mut notes)?;
        let mut description = None;
        let mut target_dir = None;
        let mut rest = Vec::new();
        for Given { option, value, .. } in given {
            match (option, value) {
                ("--description", Some(value)) => description = Some(non_empty(option, value)?),
                ("--target-dir", Some(value)) => target_dir = Some(non_empty(option, value)?),
                (_, value) => {
                    let value = match value {
                        Some(value) => {
                            check_value(option, &value)?;
                            notes.extend(note_on_value(option, &value));
                            Some(value)
                        }
                        None => None,
                    };
                    rest.push(option.into());
                    rest.extend(value);
                }
            }
        }
        let description = description.ok_or(BuildArgsError::Missing("--description"))?;
        let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let bases = Bases {
            here: &here,
            description: &here.join(&description),
        };
        only_these(&mut rest);
        Ok(BuildArgs {
            description,
            target_dir: target_dir.ok_or(BuildArgsError::Missing("--target-dir"))?,
            host_paths: translate(&mut rest, bases),
            rest,
            notes,
        })
    }
}

/// Says `--only-repo` in options that kiwi has.
fn only_these(words: &mut Vec<OsString>) {
    let mut given = false;
    // A value does not begin like an option: `--only-repo` is none.
    for word in words.iter_mut().filter(|word| *word == ONLY_REPO) {
        *word = "--add-repo".into();
        given = true;
    }
    if given && !words.iter().any(|word| word == IGNORE_REPOS) {
        words.push(IGNORE_REPOS.into());
    }
}

/// An option with its value.
struct Given {
    option: &'static str,
    kind: Value,
    value: Option<OsString>,
}

/// Cuts `words` into options.
fn split(words: &[OsString], notes: &mut Vec<String>) -> Result<Vec<Given>, BuildArgsError> {
    let mut given = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (name, attached) = split_assignment(word);
        let (option, kind) = find(name)?;
        if name != option {
            notes.push(format!("{}: taken for {option}", name.display()));
        }
        let value = match (kind, attached) {
            (Value::None, None) => None,
            (Value::None, Some(_)) => return Err(BuildArgsError::UnexpectedValue(option)),
            (_, Some(value)) => Some(value.to_owned()),
            (_, None) => Some(
                words
                    .next()
                    .filter(|next| !is_named(split_assignment(next).0))
                    .ok_or(BuildArgsError::NoValue(option))?
                    .clone(),
            ),
        };
        given.push(Given {
            option,
            kind,
            value,
        });
    }
    Ok(given)
}

/// Leaves the last of each option that counts once.
fn last_wins(given: Vec<Given>, notes: &mut Vec<String>) -> Vec<Given> {
    let mut left: Vec<Given> = Vec::new();
    for next in given {
        let once = next.kind != Value::Repeat;
        let mut known = left.iter();
        // Those that repeat may be thousands.
        if once && let Some(at) = known.position(|known| known.option == next.option) {
            let earlier = left.remove(at);
            if earlier.value != next.value {
                let shown = |value: &Option<OsString>| {
                    let text = value.as_deref().unwrap_or_default().to_string_lossy();
                    // Credentials are no part of a text for the screen.
                    if next.option.ends_with("-credentials") {
                        String::from("***")
                    } else {
                        text.into_owned()
                    }
                };
                notes.push(format!(
                    "{} is given more than once: {} counts, not {}",
                    next.option,
                    shown(&next.value),
                    shown(&earlier.value)
                ));
            }
        }
        left.push(next);
    }
    left
}

/// Leaves out what has an empty value, as a script has it whose variable is empty: kiwi takes it for not
/// given, or fails late.
fn without_empty(given: Vec<Given>, notes: &mut Vec<String>) -> Result<Vec<Given>, BuildArgsError> {
    let has_credentials = given
        .iter()
        .any(|one| one.option == "--add-repo-credentials");
    let mut left = Vec::new();
    for one in given {
        let is_empty = one.value.as_ref().is_some_and(|value| value.is_empty());
        match one.option {
            _ if !is_empty => left.push(one),
            // They belong to repositories by their order, and an empty one is for none.
            "--add-repo-credentials" => left.push(one),
            "--description" | "--target-dir" | ONLY_REPO => {
                return Err(BuildArgsError::NoValue(one.option));
            }
            "--add-repo" if has_credentials => return Err(BuildArgsError::NoValue(one.option)),
            option => notes.push(format!("{option}: an empty value counts as not given")),
        }
    }
    Ok(left)
}

fn non_empty(option: &'static str, value: OsString) -> Result<PathBuf, BuildArgsError> {
    if value.is_empty() {
        return Err(BuildArgsError::NoValue(option));
    }
    Ok(PathBuf::from(value))
}

fn split_assignment(word: &OsStr) -> (&OsStr, Option<&OsStr>) {
    let bytes = word.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) if bytes.starts_with(b"--") => (
            OsStr::from_bytes(&bytes[..at]),
            Some(OsStr::from_bytes(&bytes[at + 1..])),
        ),
        _ => (word, None),
    }
}

/// Returns whether `name` is the full name of an option.
fn is_named(name: &OsStr) -> bool {
    OPTIONS.iter().any(|(option, _)| name == *option)
}

fn find(name: &OsStr) -> Result<(&'static str, Value), BuildArgsError> {
    let typed = name.to_string_lossy().into_owned();
    let full = beginning_with(&typed);
    let named = OPTIONS
        .iter()
        .find(|(option, _)| name == *option)
        .or_else(|| OPTIONS.iter().find(|(option, _)| full == Some(option)));
    if let Some((option, kind)) = named {
        return Ok((option, *kind));
    }
    if typed == "--" {
        return Err(BuildArgsError::Separator);
    }
    if !typed.starts_with('-') {
        return Err(BuildArgsError::Word(typed));
    }
    // The names are long: more edits than in a short one still mean the same word.
    let nearest = nearest(&typed, OPTIONS.iter().map(|(option, _)| *option), 2 * TYPO);
    Err(BuildArgsError::Unknown {
        option: typed,
        nearest,
    })
}

/// Refuses what would only fail later, in the box.
fn check_value(option: &'static str, value: &OsStr) -> Result<(), BuildArgsError> {
    let text = value.to_string_lossy();
    if option == "--ca-target-distribution" && !CA_TARGETS.contains(&&*text) {
        return Err(BuildArgsError::BadValue {
            option,
            value: text.into_owned(),
            known: CA_TARGETS.join(", "),
        });
    }
    // kiwi makes a name in Python of it, fails otherwise, and ends with 0 all the same.
    if option == "--set-type-attr" {
        let (name, has_value) = match text.split_once('=') {
            Some((name, _)) => (name, true),
            None => (&*text, false),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !has_value || name.is_empty() || !name.chars().all(is_name) {
            return Err(BuildArgsError::BadForm {
                option,
                given: name.to_owned(),
                form: "ATTRIBUTE=VALUE",
            });
        }
    }
    // SOURCE,TYPE,ALIAS,PRIORITY,…: kiwi reads it as Python does, from --set-repo only.
    if option == "--set-repo" {
        let priority = text.split(',').nth(3).unwrap_or_default();
        let digits = priority.trim().trim_start_matches(['+', '-']);
        let is_number = digits.chars().all(|c| c.is_numeric() || c == '_');
        if !priority.is_empty() && (digits.is_empty() || !is_number) {
            return Err(BuildArgsError::BadForm {
                option,
                given: format!("…,{priority},…"),
                form: "a number as the fourth field, the priority",
            });
        }
    }
    Ok(())
}

/// Says what kiwi makes of a value that it does not refuse.
fn note_on_value(option: &str, value: &OsStr) -> Option<String> {
    let text = value.to_string_lossy();
    (option == "--add-container-label" && !text.contains('=')).then(|| {
        format!("--add-container-label {text}: has no value: kiwi ignores it (LABEL=VALUE)")
    })
}

#[cfg(test)]
mod tests;
