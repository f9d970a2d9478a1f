//! `boxbuild generate`: manual pages and shell completions from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Command;

use crate::args::{self, BUILD_EXAMPLES, CompletionShell, What, examples_of};
use crate::completion::script;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::manual::{TOPICS, command_page, page_name, topic_page};

/// Writes `what` into the folder `dir`.
pub(super) fn run(what: What, dir: &Path) -> Result<ExitCode> {
    generate(what, dir).host_context(|| format!("cannot write into {}", dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes `what` into the folder `dir`, which is created if necessary. Returns the files.
fn generate(what: What, dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(dir)?;
    match what {
        What::Man => man(dir),
        What::Completions => completions(dir),
    }
}

/// Writes the scripts under the names that the shells look for.
fn completions(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let files = [
        (CompletionShell::Bash, "boxbuild.bash"),
        (CompletionShell::Zsh, "_boxbuild"),
        (CompletionShell::Fish, "boxbuild.fish"),
    ];
    files
        .into_iter()
        .map(|(shell, name)| save(dir, name, script(shell, "boxbuild", None).as_bytes()))
        .collect()
}

fn man(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut command = args::command();
    command.build();
    let mut paths = Vec::new();
    paths_of(&command, "", &mut paths);
    let mut files = Vec::new();
    for path in &paths {
        let words = path.split(' ').filter(|word| !word.is_empty());
        let Some(found) = words
            .into_iter()
            .try_fold(&command, |command, word| command.find_subcommand(word))
        else {
            continue;
        };
        let examples = if path.is_empty() {
            Some(BUILD_EXAMPLES.to_owned())
        } else {
            examples_of(path)
        };
        let page = command_page(found, path, &examples.unwrap_or_default(), &paths)?;
        files.push(save(dir, &format!("{}.1", page_name(path)), &page)?);
    }
    for topic in TOPICS {
        let name = format!("{}.{}", page_name(topic.name), topic.section);
        files.push(save(dir, &name, &topic_page(topic)?)?);
    }
    Ok(files)
}

/// Collects the words of `command` and of all commands below it.
fn paths_of(command: &Command, path: &str, paths: &mut Vec<String>) {
    paths.push(path.to_owned());
    let subs = command.get_subcommands();
    // clap's own help of `box` and its like.
    for sub in
        subs.filter(|sub| !sub.is_hide_set() && (path.is_empty() || sub.get_name() != "help"))
    {
        let path = format!("{path} {}", sub.get_name());
        paths_of(sub, path.trim_start(), paths);
    }
}

#[expect(clippy::disallowed_methods, reason = "the user names the folder")]
fn save(dir: &Path, name: &str, text: &[u8]) -> io::Result<PathBuf> {
    let path = dir.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dir: &Path, name: &str) -> String {
        fs::read_to_string(dir.join(name)).expect(name)
    }

    /// Case E13: the pages had the options and nothing else.
    #[test]
    fn every_command_and_topic_has_its_page_with_all_sections() {
        let dir = tempfile::tempdir().unwrap();
        let files = generate(What::Man, dir.path()).unwrap();
        let mut paths = Vec::new();
        paths_of(&args::command(), "", &mut paths);
        assert_eq!(files.len(), paths.len() + TOPICS.len());
        for path in &paths {
            let page = read(dir.path(), &format!("{}.1", page_name(path)));
            for section in [
                "NAME",
                "SYNOPSIS",
                "DESCRIPTION",
                "OPTIONS",
                "EXAMPLES",
                "\"EXIT STATUS\"",
                "ENVIRONMENT",
                "FILES",
                "\"SEE ALSO\"",
            ] {
                let heading = format!(".SH {section}");
                let count = page.lines().filter(|line| *line == heading).count();
                assert_eq!(count, 1, "{section} in the page of '{path}'\n{page}");
            }
            assert!(page.contains("boxbuild"), "{path}");
        }
        let page = read(dir.path(), "boxbuild.1");
        for text in [
            "box\\-memory",
            "no\\-snapshot",
            "\\-\\-profile",
            "\\-\\-set\\-repo",
            "KIWI_BOXED_CACHE_DIR",
            "124",
            "boxbuild\\-box",
        ] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
        for arg in args::command()
            .get_arguments()
            .filter(|arg| !arg.is_hide_set())
        {
            let help = arg.get_long_help().unwrap_or_default().to_string();
            let word = help.split_whitespace().next().unwrap_or_default();
            let name = arg.get_long().unwrap_or_default().replace('-', "\\-");
            let after = page.split(&format!("\\-\\-{name}\\fR")).nth(1);
            let after = after.unwrap_or_default().split(".TP").next();
            let has_help = after.is_some_and(|after| after.contains(word));
            assert!(has_help, "{name}: {word} is not in the page");
        }
        let page = read(dir.path(), "boxbuild-batch-file.5");
        assert!(page.contains("[[override]]"), "{page}");
    }

    #[test]
    fn pages_have_no_mistake_that_man_would_warn_of() {
        let dir = tempfile::tempdir().unwrap();
        for file in generate(What::Man, dir.path()).unwrap() {
            let mut man = std::process::Command::new("man");
            man.args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]);
            let Ok(output) = man.arg(&file).env("MANROFFSEQ", "").output() else {
                eprintln!(
                    "skipped: pages_have_no_mistake_that_man_would_warn_of: man is not installed"
                );
                return;
            };
            let warnings = String::from_utf8_lossy(&output.stderr);
            assert!(warnings.is_empty(), "{}: {warnings}", file.display());
        }
    }

    /// The scripts of all shells that are installed are read by them.
    #[test]
    fn shells_accept_their_scripts() {
        let dir = tempfile::tempdir().unwrap();
        let files = generate(What::Completions, dir.path()).unwrap();
        for (shell, file) in ["bash", "zsh", "fish"].into_iter().zip(files) {
            let mut check = std::process::Command::new(shell);
            let Ok(output) = check.arg("-n").arg(&file).output() else {
                eprintln!("skipped: shells_accept_their_scripts: {shell} is not installed");
                continue;
            };
            assert!(output.status.success(), "{shell}: {output:?}");
        }
    }
}
