//! The options of `kiwi-ng system build`, checked before anything is started.
//!
//! The set is that of KIWI 10.3 and 11.1 (`kiwi-ng system build --help`).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// Nothing.
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

const CA_TARGETS: [&str; 4] = ["suse", "redhat", "debian", "archlinux"];

/// Whether `name` is an option of `kiwi-ng system build`.
pub fn is_option(name: &str) -> bool {
    OPTIONS.iter().any(|(option, _)| *option == name)
}

/// Arguments of `kiwi-ng system build`, understood as far as boxbuild needs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildArgs {
    /// The value of `--description`.
    pub description: PathBuf,
    /// The value of `--target-dir`.
    pub target_dir: PathBuf,
    /// All other options in their order, as `--option`, `value` words.
    pub rest: Vec<OsString>,
}

/// The build arguments are wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildArgsError {
    /// No such option.
    #[error("'kiwi-ng system build' has no option {option}{}", hint(.nearest))]
    Unknown {
        /// As typed.
        option: String,
        /// The option that was probably meant.
        nearest: Option<&'static str>,
    },
    /// An option of boxbuild or of kiwi-ng itself.
    #[error(
        "{0} stands behind the separator, where only options of 'kiwi-ng system build' belong: \
             write it in front of it"
    )]
    Misplaced(String),
    /// A word that is no option.
    #[error("unexpected word '{0}' among the build options: options start with --")]
    Word(String),
    /// The value is missing.
    #[error("the build option {0} needs a value")]
    NoValue(&'static str),
    /// A flag with a value.
    #[error("the build option {0} takes no value")]
    UnexpectedValue(&'static str),
    /// Given twice.
    #[error("the build option {0} can be given only once")]
    Twice(&'static str),
    /// A required option is missing.
    #[error("the build option {0} is missing: write it behind --")]
    Missing(&'static str),
    /// A value that kiwi refuses.
    #[error("{value} is no value for {option} (known: {known})")]
    BadValue {
        /// The option.
        option: &'static str,
        /// As typed.
        value: String,
        /// The values there are.
        known: String,
    },
    /// A file of the host that the box cannot see.
    #[error(
        "{option} names a file of this host ({value}), which the box cannot see: put it into the \
         description folder and write /description/…"
    )]
    HostFile {
        /// The option.
        option: &'static str,
        /// As typed.
        value: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    match nearest {
        Some(option) => format!("; did you mean {option}?"),
        None => String::from("; see 'kiwi-ng system build --help'"),
    }
}

impl BuildArgs {
    /// Reads the words behind the separator.
    pub fn parse(words: &[OsString]) -> Result<BuildArgs, BuildArgsError> {
        let mut description = None;
        let mut target_dir = None;
        let mut rest = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let (name, attached) = split_assignment(word);
            let (option, kind) = find(name)?;
            let value = match (kind, attached) {
                (Value::None, None) => None,
                (Value::None, Some(_)) => return Err(BuildArgsError::UnexpectedValue(option)),
                (_, Some(value)) => Some(value.to_owned()),
                (_, None) => Some(
                    words
                        .next()
                        .filter(|next| find(split_assignment(next).0).is_err())
                        .ok_or(BuildArgsError::NoValue(option))?
                        .clone(),
                ),
            };
            if kind == Value::Once && seen.contains(&option) {
                return Err(BuildArgsError::Twice(option));
            }
            seen.push(option);
            match (option, value) {
                ("--description", Some(value)) => description = Some(non_empty(option, value)?),
                ("--target-dir", Some(value)) => target_dir = Some(non_empty(option, value)?),
                (_, value) => {
                    if let Some(value) = &value {
                        check_value(option, value)?;
                    }
                    rest.push(option.into());
                    rest.extend(value);
                }
            }
        }
        Ok(BuildArgs {
            description: description.ok_or(BuildArgsError::Missing("--description"))?,
            target_dir: target_dir.ok_or(BuildArgsError::Missing("--target-dir"))?,
            rest,
        })
    }
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

fn find(name: &OsStr) -> Result<(&'static str, Value), BuildArgsError> {
    if let Some((option, kind)) = OPTIONS.iter().find(|(option, _)| name == *option) {
        return Ok((option, *kind));
    }
    let typed = name.to_string_lossy().into_owned();
    if !typed.starts_with('-') {
        return Err(BuildArgsError::Word(typed));
    }
    if crate::args::is_option(&typed) {
        return Err(BuildArgsError::Misplaced(typed));
    }
    let nearest = OPTIONS
        .iter()
        .map(|(option, _)| (strsim::damerau_levenshtein(option, &typed), *option))
        .min()
        .filter(|(distance, _)| *distance <= 4)
        .map(|(_, option)| option);
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
    let path = text.strip_prefix("file://").unwrap_or(&text);
    let host_file = match option {
        "--signing-key" | "--ca-cert" => !in_box(path),
        "--set-repo" | "--add-repo" => {
            let source = text.split(',').next().unwrap_or_default();
            ["dir://", "file://", "/"]
                .iter()
                .any(|start| source.starts_with(start))
                && !in_box(
                    source
                        .trim_start_matches("dir:")
                        .trim_start_matches("file:"),
                )
        }
        _ => false,
    };
    if host_file {
        return Err(BuildArgsError::HostFile {
            option,
            value: text.into_owned(),
        });
    }
    Ok(())
}

/// Whether a path is one that exists in the box: in the description, or of the box itself.
fn in_box(path: &str) -> bool {
    let path = format!("/{}", path.trim_start_matches('/'));
    ["/description/", "/usr/", "/etc/"]
        .iter()
        .any(|place| path.starts_with(place))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parse(words: &[&str]) -> Result<BuildArgs, BuildArgsError> {
        BuildArgs::parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn both_spellings_of_values() {
        let expected = BuildArgs {
            description: "d".into(),
            target_dir: "t".into(),
            rest: vec!["--add-package".into(), "a=b".into(), "--clear-cache".into()],
        };
        let with_spaces = ["--description", "d", "--add-package", "a=b"];
        let tail = ["--clear-cache", "--target-dir", "t"];
        assert_eq!(
            parse(&[&with_spaces[..], &tail].concat()).unwrap(),
            expected
        );
        let with_equals = ["--description=d", "--add-package=a=b"];
        let tail = ["--clear-cache", "--target-dir=t"];
        assert_eq!(
            parse(&[&with_equals[..], &tail].concat()).unwrap(),
            expected
        );
    }

    #[test]
    fn a_misspelt_option_gets_the_nearest_one() {
        let error = parse(&["--description", "d", "--add-pakage", "foo"]).unwrap_err();
        assert!(
            error.to_string().contains("did you mean --add-package?"),
            "{error}"
        );
        let error = parse(&["--frobnicate-the-image"]).unwrap_err();
        assert!(!error.to_string().contains("did you mean"), "{error}");
    }

    #[test]
    fn every_option_in_both_spellings() {
        for (option, kind) in OPTIONS {
            // What files and values are allowed is tested apart.
            let value = match *option {
                "--ca-target-distribution" => "debian",
                "--signing-key" | "--ca-cert" => "/description/key",
                _ => "value",
            };
            let attached = format!("{option}={value}");
            let (spellings, forwarded) = match kind {
                Value::None => (vec![vec![*option]], vec![*option]),
                _ => (
                    vec![vec![*option, value], vec![attached.as_str()]],
                    vec![*option, value],
                ),
            };
            let folders: Vec<String> = ["--description", "--target-dir"]
                .into_iter()
                .filter(|folder| folder != option)
                .map(|folder| format!("{folder}=value"))
                .collect();
            let folders: Vec<&str> = folders.iter().map(String::as_str).collect();
            for spelling in spellings {
                let once = parse(&[&spelling[..], &folders].concat());
                let once = once.unwrap_or_else(|error| panic!("{spelling:?}: {error}"));
                if folders.len() == 2 {
                    assert_eq!(once.rest, forwarded, "{spelling:?}");
                }
                let twice = parse(&[&spelling[..], &spelling, &folders].concat());
                match kind {
                    Value::Once => assert_eq!(twice, Err(BuildArgsError::Twice(option))),
                    _ => assert_eq!(twice.unwrap().rest, [&forwarded[..], &forwarded].concat()),
                }
            }
        }
    }

    #[test]
    fn an_option_on_the_wrong_side_is_told_so() {
        let error = parse(&["--description=d", "--profile", "A"]).unwrap_err();
        assert_eq!(error, BuildArgsError::Misplaced("--profile".into()));
    }

    #[test]
    fn missing_things_are_named() {
        assert_eq!(parse(&[]), Err(BuildArgsError::Missing("--description")));
        assert_eq!(
            parse(&["--target-dir", "t", "--description"]),
            Err(BuildArgsError::NoValue("--description"))
        );
        assert_eq!(
            parse(&["--description", "--target-dir", "t"]),
            Err(BuildArgsError::NoValue("--description"))
        );
        assert_eq!(
            parse(&["--description=d", "--description=e"]),
            Err(BuildArgsError::Twice("--description"))
        );
        assert_eq!(
            parse(&["--clear-cache=yes"]),
            Err(BuildArgsError::UnexpectedValue("--clear-cache"))
        );
        assert_eq!(
            parse(&["--description="]),
            Err(BuildArgsError::NoValue("--description"))
        );
        assert_eq!(parse(&["word"]), Err(BuildArgsError::Word("word".into())));
    }

    #[test]
    fn host_files_are_refused_while_they_cannot_be_shared() {
        for (option, value) in [
            ("--signing-key", "/home/me/key.asc"),
            ("--add-repo", "dir:///srv/repo,rpm-dir"),
            ("--set-repo", "/srv/repo"),
        ] {
            assert!(
                matches!(
                    parse(&[option, value]),
                    Err(BuildArgsError::HostFile { .. })
                ),
                "{option} {value}"
            );
        }
        for (option, value) in [
            ("--signing-key", "/description/key.asc"),
            (
                "--signing-key",
                "file:///usr/share/keyrings/debian-archive-keyring.gpg",
            ),
            ("--add-repo", "http://mirror.example/debian,apt-deb"),
        ] {
            assert_eq!(
                parse(&[option, value]),
                Err(BuildArgsError::Missing("--description")),
                "{option} {value}"
            );
        }
    }

    #[test]
    fn values_of_any_bytes_survive() {
        let raw = OsString::from_vec(b"--description=/tmp/\xff \n$x".to_vec());
        let parsed = BuildArgs::parse(&[raw, "--target-dir=t".into()]).unwrap();
        assert_eq!(parsed.description.as_os_str().as_bytes(), b"/tmp/\xff \n$x");
    }
}
