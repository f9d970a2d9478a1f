//! From the words of a command line to what may stand in place of one of them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap_complete::engine::complete;

use super::bash;
use super::command::{after_separator, before_separator};
use super::cut::cut;
use crate::args::{self, CompletionShell};
use crate::manual::TOPICS;

/// The name of a link to boxbuild under which it stands in for kiwi.
const KIWI: &str = "kiwi-ng";

/// Something that may stand in place of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The word, or, in bash, its part behind the last character that bash breaks words at.
    pub(crate) value: String,
    /// What it is, on one line.
    pub(crate) help: String,
}

/// Returns what may stand in place of word `index` of a command line, which begins with the name of
/// the program.
pub(crate) fn candidates(
    shell: CompletionShell,
    words: &[OsString],
    index: usize,
) -> Vec<Candidate> {
    let line = match shell {
        CompletionShell::Bash => bash::join(words, index),
        CompletionShell::Zsh | CompletionShell::Fish => Line::new(words, index),
    };
    let mut found = line.candidates();
    // An empty word is completed with the words that are likely: options come after a dash.
    if line.current.is_empty() && found.iter().any(|found| !found.value.starts_with('-')) {
        found.retain(|found| !found.value.starts_with('-'));
    }
    for candidate in &mut found {
        if let Some(rest) = candidate.value.strip_prefix(&line.kept) {
            candidate.value = rest.to_owned();
        }
        if shell == CompletionShell::Bash {
            candidate.value = bash::quoted(&candidate.value);
        }
    }
    found
}

/// A command line, cut at the word that is completed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The name of the program.
    pub(super) program: OsString,
    /// The words between it and the word.
    pub(super) before: Vec<OsString>,
    /// The word, as far as it is typed.
    pub(super) current: OsString,
    /// The words after it.
    pub(super) after: Vec<OsString>,
    /// The beginning of the word that the shell keeps by itself.
    pub(super) kept: String,
}

impl Line {
    /// The line of `words`, in which the one at `index` is completed, or else the last one.
    pub(super) fn new(words: &[OsString], index: usize) -> Line {
        let index = index.min(words.len().saturating_sub(1)).max(1);
        let mut words = words.iter().cloned();
        Line {
            program: words.next().unwrap_or_default(),
            before: words.by_ref().take(index - 1).collect(),
            current: words.next().unwrap_or_default(),
            after: words.collect(),
            kept: String::new(),
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let mut words = self.before.clone();
        words.extend(self.after.iter().cloned());
        let (front, build_args) = cut(self.before.clone());
        if front.last().is_some_and(|word| word == "system") && build_args.is_none() {
            return self.word("boxbuild", "Build an image in a box");
        }
        if let Some((first, path)) = front.split_first()
            && first == "help"
        {
            return self.helped(path);
        }
        let (mut command, before) = match build_args {
            Some(build_args) => (after_separator(), build_args),
            None => (before_separator(&words), front),
        };
        let mut line = vec![self.program.clone()];
        line.extend(before);
        line.push(self.current.clone());
        let last = line.len() - 1;
        let mut found: Vec<Candidate> = complete(&mut command, line, last, Some(Path::new(".")))
            .unwrap_or_default()
            .iter()
            .filter(|candidate| !candidate.is_hide_set())
            .map(|candidate| {
                let help = candidate.get_help().map(ToString::to_string);
                let help = help.unwrap_or_default();
                Candidate {
                    value: candidate.get_value().to_string_lossy().into_owned(),
                    help: help.lines().next().unwrap_or_default().to_owned(),
                }
            })
            .collect();
        let as_kiwi = Path::new(&self.program).file_name() == Some(OsStr::new(KIWI));
        if as_kiwi && self.before.is_empty() {
            found.extend(self.word("system", "Build an image: system boxbuild"));
        }
        found
    }

    /// Returns what `help` with the words `path` before the current one can show.
    fn helped(&self, path: &[OsString]) -> Vec<Candidate> {
        let root = args::command();
        let Some(command) = path
            .iter()
            .try_fold(&root, |command, word| command.find_subcommand(word))
        else {
            return Vec::new();
        };
        let commands = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let mut found: Vec<Candidate> = commands
            .flat_map(|sub| {
                let about = sub.get_about().map(ToString::to_string);
                self.word(sub.get_name(), &about.unwrap_or_default())
            })
            .collect();
        if path.is_empty() {
            found.extend(
                TOPICS
                    .iter()
                    .flat_map(|topic| self.word(topic.name, topic.about)),
            );
        }
        found
    }

    /// Returns `word`, if it begins as the one that is completed.
    fn word(&self, word: &str, help: &str) -> Vec<Candidate> {
        let fits = word.starts_with(&*self.current.to_string_lossy());
        let candidate = || Candidate {
            value: word.to_owned(),
            help: help.to_owned(),
        };
        fits.then(candidate).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(shell: CompletionShell, line: &str) -> Vec<String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let found = candidates(shell, &words, words.len() - 1);
        found.into_iter().map(|found| found.value).collect()
    }

    fn has(line: &str, word: &str) {
        let found = of(CompletionShell::Fish, line);
        assert!(found.iter().any(|found| found == word), "{line}: {found:?}");
    }

    /// Case E11: `--box <TAB>` gave files, and behind `--` stood boxbuild's own options.
    #[test]
    fn values_and_both_sides_of_the_separator_are_completed() {
        has("boxbuild ", "doctor");
        has("boxbuild --bo", "--box");
        has("boxbuild --box le", "leap");
        has("boxbuild --box=le", "--box=leap");
        has("boxbuild --engine ", "qemu");
        has("boxbuild --type ", "oem");
        has("boxbuild --arch aa", "aarch64");
        has("boxbuild --box x -- --desc", "--description");
        has("boxbuild --box x kiwi --target", "--target-dir");
        has("boxbuild --box x -- --ca-target-distribution ", "debian");
        has("boxbuild box ", "create");
        has("boxbuild box pull le", "leap");
        has("boxbuild box create x --from ", "debian:trixie");
        has("boxbuild help ", "build-args");
        has("boxbuild help box ", "create");
        has("boxbuild completions ", "bash");
        let behind = of(CompletionShell::Zsh, "boxbuild --box x -- --");
        assert!(behind.iter().any(|word| word == "--add-repo"), "{behind:?}");
        assert!(!behind.iter().any(|word| word == "--box"), "{behind:?}");
        assert!(!of(CompletionShell::Zsh, "boxbuild ").contains(&String::from("complete")));
    }

    #[test]
    fn a_link_named_kiwi_ng_is_completed() {
        has("kiwi-ng sys", "system");
        has("kiwi-ng --profile A system ", "boxbuild");
        has("kiwi-ng system boxbuild --box-mem", "--box-memory");
        has(
            "kiwi-ng --type oem system boxbuild --box x kiwi --desc",
            "--description",
        );
    }

    #[test]
    fn bash_gets_the_part_that_it_replaces() {
        let words = ["boxbuild", "--box", "=", "le"].map(OsString::from);
        let found = candidates(CompletionShell::Bash, &words, 3);
        assert_eq!(found[0].value, "leap");
        let words = ["boxbuild", "box", "create", "x", "--from", "debian", ":"].map(OsString::from);
        let found = candidates(CompletionShell::Bash, &words, 6);
        let found: Vec<&str> = found.iter().map(|found| found.value.as_str()).collect();
        assert_eq!(found, ["bookworm", "trixie"]);
    }

    #[test]
    fn profiles_of_the_description_are_completed() {
        let dir = tempfile::tempdir().unwrap();
        let xml = "<image><profiles><profile name=\"Live\" description=\"x\"/>\
                   <profile description=\"y\" name='Disk'/></profiles></image>";
        std::fs::write(dir.path().join("config.xml"), xml).unwrap();
        let line = [
            "boxbuild",
            "--profile",
            "",
            "--box",
            "x",
            "--",
            "--description",
            dir.path().to_str().unwrap(),
        ]
        .map(OsString::from);
        let found = candidates(CompletionShell::Fish, &line, 2);
        let found: Vec<&str> = found.iter().map(|found| found.value.as_str()).collect();
        assert_eq!(found, ["Disk", "Live"]);
    }

    #[test]
    fn strange_lines_have_no_candidates_and_do_no_harm() {
        for line in ["", "boxbuild", "boxbuild --", "boxbuild -- -- --"] {
            of(CompletionShell::Bash, line);
        }
        assert_eq!(
            candidates(CompletionShell::Bash, &[], 7).len(),
            candidates(CompletionShell::Zsh, &[], 0).len()
        );
    }
}
