//! From the words of a command line to what may stand in place of one of them.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap_complete::engine::complete;

use super::bash;
use super::command::{after_separator, before_separator};
use super::cut::cut;
use super::line::Line;
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
    let mut found = of_line(&line);
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

/// Returns what may stand in place of the word.
fn of_line(line: &Line) -> Vec<Candidate> {
    let mut words = line.before.clone();
    words.extend(line.after.iter().cloned());
    let (front, build_args) = cut(line.before.clone());
    if front.last().is_some_and(|word| word == "system") && build_args.is_none() {
        return word_of(line, "boxbuild", "Build an image in a box");
    }
    if let Some((first, path)) = front.split_first()
        && first == "help"
    {
        return helped(line, path);
    }
    let (mut command, before) = match build_args {
        Some(build_args) => (after_separator(), build_args),
        None => (before_separator(&words), front),
    };
    let mut words = vec![line.program.clone()];
    words.extend(before);
    words.push(line.current.clone());
    let last = words.len() - 1;
    let mut found: Vec<Candidate> = complete(&mut command, words, last, Some(Path::new(".")))
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
    let as_kiwi = Path::new(&line.program).file_name() == Some(OsStr::new(KIWI));
    if as_kiwi && line.before.is_empty() {
        found.extend(word_of(line, "system", "Build an image: system boxbuild"));
    }
    found
}

/// Returns what `help` with the words `path` before the current one can show.
fn helped(line: &Line, path: &[OsString]) -> Vec<Candidate> {
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
            word_of(line, sub.get_name(), &about.unwrap_or_default())
        })
        .collect();
    if path.is_empty() {
        found.extend(
            TOPICS
                .iter()
                .flat_map(|topic| word_of(line, topic.name, topic.about)),
        );
    }
    found
}

/// Returns `word`, if it begins as the one that is completed.
fn word_of(line: &Line, word: &str, help: &str) -> Vec<Candidate> {
    let fits = word.starts_with(&*line.current.to_string_lossy());
    let candidate = || Candidate {
        value: word.to_owned(),
        help: help.to_owned(),
    };
    fits.then(candidate).into_iter().collect()
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
        let xml = "<image schemaversion=\"8.3\" name=\"x\"><profiles><profile name=\"Live\" description=\"x\"/>\
                   <profile description=\"y\" name='Disk'/></profiles>\
                   <preferences><type image=\"tbz\"/><type image=\"oem\"/></preferences></image>";
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
        let of = |line: &[OsString], index| {
            let found = candidates(CompletionShell::Fish, line, index);
            let found = found.into_iter().map(|found| found.value);
            found.collect::<Vec<String>>()
        };
        assert_eq!(of(&line, 2), ["Live", "Disk"]);
        let mut info = vec![OsString::from("boxbuild"), OsString::from("info")];
        info.push(dir.path().into());
        info.extend(["--profile", "L"].map(OsString::from));
        assert_eq!(of(&info, 4), ["Live"]);
        let types = ["boxbuild", "--type", "", "--", "--description"].map(OsString::from);
        let types = [&types[..], &[dir.path().into()]].concat();
        assert_eq!(of(&types, 2), ["oem", "tbz"]);
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
