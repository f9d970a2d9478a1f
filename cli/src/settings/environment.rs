//! Settings in environment variables.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use boxbuild_host::nearest::nearest;

use super::error::Wrong;
use super::given::{Given, Value};
use super::names::{Kind, NO_CONFIG, PREFIX, Setting};
use super::origin::Origin;

/// Edits within which a misspelt variable is recognised. Variables of other programs begin alike.
const EDITS: usize = 1;

/// What the environment says.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) given: Vec<Given>,
    pub(super) wrong: Vec<Wrong>,
    /// Notes on variables that look like settings and are none.
    pub(super) notes: Vec<String>,
    /// Settings files are left out.
    pub(super) no_config: bool,
}

/// Reads the variables of `environment` that are settings. Paths in them are relative to `here`.
pub(super) fn read(
    all: &[Setting],
    environment: impl Iterator<Item = (OsString, OsString)>,
    here: Option<&Path>,
) -> Environment {
    let mut found = Environment::default();
    let mut ours: Vec<(String, OsString)> = environment
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, value)| name.starts_with(PREFIX) && !value.is_empty())
        .collect();
    ours.sort();
    let known: Vec<(String, &Setting)> = all
        .iter()
        .map(|setting| (setting.variable(), setting))
        .collect();
    for (name, value) in ours {
        let origin = Origin::Variable(name.clone());
        let setting = known.iter().find(|(variable, _)| *variable == name);
        let read = match setting {
            _ if name == NO_CONFIG => flag(&value).map(|on| {
                found.no_config = on;
                None
            }),
            Some((_, setting)) => value_of(setting, &value).map(|value| {
                Some(Given {
                    setting: (*setting).clone(),
                    value: match here {
                        // A batch has another working folder.
                        Some(here) => value.with_paths(setting, here, None),
                        None => value,
                    },
                    origin: origin.clone(),
                })
            }),
            None => {
                let names = known.iter().map(|(variable, _)| variable.as_str());
                if let Some(near) = nearest(&name, names.chain([NO_CONFIG]), EDITS) {
                    let note = format!("{name} is no setting; did you mean {near}?");
                    found.notes.push(note);
                }
                Ok(None)
            }
        };
        match read {
            Ok(given) => found.given.extend(given),
            Err(message) => found.wrong.push(Wrong { origin, message }),
        }
    }
    found
}

fn value_of(setting: &Setting, value: &OsString) -> Result<Value, String> {
    Ok(match setting.kind {
        Kind::Flag => Value::Flag(flag(value)?),
        Kind::YesNo => Value::Words(vec![yes_no(flag(value)?).into()]),
        Kind::One { optional: true } if flag(value).is_ok() => Value::Flag(flag(value)?),
        Kind::One { .. } => Value::Words(vec![value.clone()]),
        Kind::Many => Value::Words(words(value)?),
    })
}

/// The value of an option with `yes` and `no`.
pub(super) fn yes_no(on: bool) -> &'static str {
    if on { "yes" } else { "no" }
}

/// Whether a flag is on.
fn flag(value: &OsString) -> Result<bool, String> {
    match value.to_string_lossy().to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        other => Err(format!(
            "'{other}' is neither true nor false (nor yes, no, on, off, 1, 0)"
        )),
    }
}

/// Several values, as a shell reads words. What is not text is one.
fn words(value: &OsString) -> Result<Vec<OsString>, String> {
    let Some(text) = value.to_str() else {
        return Ok(vec![value.clone()]);
    };
    let words =
        shell_words::split(text).map_err(|_| String::from("a quotation mark is not closed"))?;
    Ok(words
        .into_iter()
        .map(OsString::from)
        .filter(|word| !word.as_bytes().is_empty())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::super::names;
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Environment {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        read(&names::all(), variables, Some(Path::new("/home/me")))
    }

    #[test]
    fn variables_have_flags_lists_and_values() {
        let found = of(&[
            ("BOXBUILD_ALLOW", "mirror.example 'a b'"),
            ("BOXBUILD_BOX", "debian"),
            ("BOXBUILD_BOX_MEMORY", ""),
            ("BOXBUILD_KEEP_FAILED", "0"),
            ("BOXBUILD_NO_ACCEL", "false"),
            ("BOXBUILD_OFFLINE", "Yes"),
            ("BOXBUILD_SIGNED_BY", "keys/a.asc"),
            ("BOXBUILD_TIMINGS", "1"),
            ("BOXBUILD_TEST_ENGINE", "kvm"),
            ("OTHER_BOX", "x"),
        ]);
        let shown: Vec<String> = found
            .given
            .iter()
            .map(|given| format!("{} {}", given.setting, given.shown()))
            .collect();
        assert_eq!(
            shown,
            [
                "allow mirror.example a b",
                "box debian",
                "keep-failed no",
                "no-accel false",
                "offline true",
                "signed-by /home/me/keys/a.asc",
                "timings true"
            ]
        );
        assert_eq!(found.given[0].words().len(), 2);
        assert!(
            found.wrong.is_empty() && found.notes.is_empty(),
            "{found:?}"
        );
        assert!(!found.no_config);
    }

    #[test]
    fn a_wrong_variable_is_told() {
        let found = of(&[
            ("BOXBUILD_OFFLINE", "maybe"),
            ("BOXBUILD_ALLOW", "'a"),
            ("BOXBUILD_BOX_MEMROY", "4G"),
            ("BOXBUILD_NO_CONFIG", "1"),
        ]);
        assert_eq!(found.wrong.len(), 2, "{:?}", found.wrong);
        assert!(
            found.notes[0].contains("did you mean BOXBUILD_BOX_MEMORY"),
            "{:?}",
            found.notes
        );
        assert!(found.no_config);
    }
}
