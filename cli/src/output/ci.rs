//! Continuous integration systems that look for commands of theirs in what a job prints.
//!
//! What a guest prints must not be one of these: on GitHub `::add-path::/x` puts a folder of its choice
//! into the `PATH` of the steps that follow. All that boxbuild prints comes through [`harmless`]; the
//! only commands are its own groups ([`Groups`]) and annotations ([`super::github`]).

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::SystemTime;

static CI: LazyLock<Ci> = LazyLock::new(|| Ci::of(|name| std::env::var_os(name)));

/// The system that reads what this process prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ci {
    /// How it folds lines into groups.
    groups: Option<Groups>,
    /// It takes commands from lines of text.
    commands: bool,
}

/// How lines are folded into a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    /// `::group::` (GitHub Actions, and what is compatible with it).
    GitHub,
    /// `section_start` with control characters (GitLab).
    GitLab,
}

impl Ci {
    fn of<S: AsRef<OsStr>>(variable: impl Fn(&str) -> Option<S>) -> Ci {
        let set = |name: &str| {
            variable(name).is_some_and(|value| {
                let value = value.as_ref();
                !value.is_empty() && value != "false" && value != "0"
            })
        };
        let github = set("GITHUB_ACTIONS");
        Ci {
            groups: if github {
                Some(Groups::GitHub)
            } else {
                set("GITLAB_CI").then_some(Groups::GitLab)
            },
            commands: github || set("TF_BUILD") || set("TEAMCITY_VERSION"),
        }
    }
}

/// How the system that reads what this process prints folds lines, if there is one that does.
pub(crate) fn groups() -> Option<Groups> {
    CI.groups
}

/// Whether GitHub Actions reads what this process prints, or what is compatible with it.
pub(super) fn is_github() -> bool {
    CI.groups == Some(Groups::GitHub)
}

/// Text, of one or more lines, in which no line is a command for a system that takes commands.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if CI.commands {
        without_commands(text)
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON text in which nothing is a command for such a system: the same values.
pub(crate) fn harmless_json(text: &str) -> Cow<'_, str> {
    if CI.commands && text.contains("##") {
        Cow::Owned(json_without_commands(text))
    } else {
        Cow::Borrowed(text)
    }
}

/// In JSON, this occurs within strings only.
fn json_without_commands(text: &str) -> String {
    text.replace("##", "#\\u0023")
}

/// Changes lines that a runner of GitHub, Azure or TeamCity would obey:
///
/// - `::NAME …::VALUE`, where only space is before it;
/// - `##[NAME …]`, `##vso[…]` and `##teamcity[…]`, anywhere in a line.
///
/// Colours go: they might be left out later, and what is around them is a command then.
fn without_commands(text: &str) -> Cow<'_, str> {
    if !text.contains("::") && !text.contains('#') {
        return Cow::Borrowed(text);
    }
    let text = anstream::adapter::strip_str(text).to_string();
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let begin = line.trim_start_matches(|char: char| !char.is_ascii_graphic());
        let line = apart(line);
        lines.push(if begin.starts_with("::") {
            format!("| {line}")
        } else {
            line
        });
    }
    Cow::Owned(lines.join("\n"))
}

/// A line with a space after `##` where letters and a bracket follow.
fn apart(line: &str) -> String {
    let mut apart = String::with_capacity(line.len() + 1);
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        let word = before.trim_end_matches(|char: char| char.is_ascii_alphabetic());
        apart += word;
        if word.ends_with("##") {
            apart.push(' ');
        }
        apart += &before[word.len()..];
        apart.push('[');
        rest = after;
    }
    apart + rest
}

impl Groups {
    /// Begins a group. `name` is one of boxbuild's own: lower case letters and spaces.
    pub(crate) fn begin(self, name: &str) {
        write(&match self {
            Groups::GitHub => format!("::group::{name}\n"),
            Groups::GitLab => format!(
                "\x1b[0Ksection_start:{}:{}[collapsed=true]\r\x1b[0K{name}\n",
                now(),
                section(name)
            ),
        });
    }

    /// Ends it.
    pub(crate) fn end(self, name: &str) {
        write(&match self {
            Groups::GitHub => String::from("::endgroup::\n"),
            Groups::GitLab => {
                format!("\x1b[0Ksection_end:{}:{}\r\x1b[0K\n", now(), section(name))
            }
        });
    }
}

/// A name in the characters that GitLab takes.
fn section(name: &str) -> String {
    let fine = |char: char| {
        if char.is_ascii_alphanumeric() {
            char
        } else {
            '_'
        }
    };
    format!("boxbuild_{}", name.chars().map(fine).collect::<String>())
}

/// Seconds since the epoch.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// Writes a command as it is. Standard error that is closed does not fail a build.
pub(super) fn write(command: &str) {
    let _ = io::stderr().lock().write_all(command.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_known_by_their_variables() {
        let ci = |variables: &[(&str, &str)]| {
            Ci::of(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let none = Ci {
            groups: None,
            commands: false,
        };
        assert_eq!(ci(&[]), none);
        assert_eq!(ci(&[("GITHUB_ACTIONS", ""), ("GITLAB_CI", "false")]), none);
        let github = ci(&[("GITHUB_ACTIONS", "true")]);
        assert_eq!(
            (github.groups, github.commands),
            (Some(Groups::GitHub), true)
        );
        let gitlab = ci(&[("GITLAB_CI", "true")]);
        assert_eq!(
            (gitlab.groups, gitlab.commands),
            (Some(Groups::GitLab), false)
        );
        for reader in ["TF_BUILD", "TEAMCITY_VERSION"] {
            let other = ci(&[(reader, "True")]);
            assert_eq!((other.groups, other.commands), (None, true));
        }
    }

    /// Whether a runner of one of the systems takes something from a line.
    fn is_obeyed(line: &str) -> bool {
        let forms = ["##[", "##vso[", "##teamcity["];
        line.trim_start().starts_with("::") || forms.iter().any(|form| line.contains(form))
    }

    #[test]
    fn a_guest_forges_no_command() {
        for forged in [
            "::set-output name=x::y",
            "  ::error file=/x::gone",
            "\u{a0}\u{2003}\t::add-path::/tmp",
            "\x1b[31m::warning::x",
            "\x1b[0m\x1b[1;31m ::warning::x",
            "#\x1b[0m#[set-env name=PATH]x",
            "fine\n::stop-commands::x\n::endgroup::",
            "12:00 ##[add-path]/tmp",
            "####[group]x",
            "x ##vso[task.prependpath]/tmp",
            "##teamcity[buildStatus text='x']",
        ] {
            let shown = without_commands(forged);
            assert!(!shown.lines().any(is_obeyed), "{forged:?}: {shown:?}");
            // What it says can still be read.
            for word in ["set-output", "add-path", "warning", "endgroup", "text='x'"] {
                assert_eq!(forged.contains(word), shown.contains(word), "{shown:?}");
            }
        }
        for fine in [
            "std::fs",
            "a: b",
            "### one",
            "[ ####### ] 20%",
            "\x1b[32m✓\x1b[39m boot",
        ] {
            assert!(!is_obeyed(fine));
            let shown = without_commands(fine);
            assert_eq!(
                anstream::adapter::strip_str(&shown).to_string(),
                anstream::adapter::strip_str(fine).to_string()
            );
        }
    }

    #[test]
    fn json_keeps_its_values_without_commands() {
        let text = r####"{"text":"a ##[add-path]/tmp ###"}"####;
        let harmless = json_without_commands(text);
        assert!(!harmless.contains("##"));
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(text), value(&harmless));
    }

    #[test]
    fn names_of_sections_have_no_spaces() {
        assert_eq!(section("power off"), "boxbuild_power_off");
    }
}
