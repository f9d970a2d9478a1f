//! `boxbuild generate`: manual pages and shell completions from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

use crate::args::{self, What};
use crate::exit_code::{ExitCode, HostContext, Result};

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
        What::Completions => [Shell::Bash, Shell::Zsh, Shell::Fish]
            .into_iter()
            .map(|shell| clap_complete::generate_to(shell, &mut args::command(), "boxbuild", dir))
            .collect(),
    }
}

fn man(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut command = args::command().disable_help_subcommand(true);
    command.build();
    let mut files = Vec::new();
    pages(command, String::from("boxbuild"), dir, &mut files)?;
    Ok(files)
}

/// Writes the page of `command`, as `name`, and those of its subcommands.
#[expect(clippy::disallowed_methods, reason = "the user names the folder")]
fn pages(
    command: clap::Command,
    name: String,
    dir: &Path,
    files: &mut Vec<PathBuf>,
) -> io::Result<()> {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages(
            sub.clone(),
            format!("{name}-{}", sub.get_name()),
            dir,
            files,
        )?;
    }
    let path = dir.join(format!("{name}.1"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .title(name)
        .render(&mut page)?;
    fs::write(&path, page)?;
    files.push(path);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(command: &clap::Command, path: &str, into: &mut Vec<String>) {
        into.push(path.to_owned());
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            names(sub, &format!("{path}-{}", sub.get_name()), into);
        }
    }

    #[test]
    fn every_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        let files = generate(What::Man, dir.path()).unwrap();
        let mut expected = Vec::new();
        names(&args::command(), "boxbuild", &mut expected);
        assert_eq!(files.len(), expected.len());
        for name in expected {
            let page = fs::read_to_string(dir.path().join(format!("{name}.1"))).unwrap();
            assert!(
                page.contains(".SH NAME") && page.contains("Examples"),
                "{name}"
            );
        }
        let page = fs::read_to_string(dir.path().join("boxbuild.1")).unwrap();
        for option in ["box\\-memory", "no\\-snapshot", "profile"] {
            assert!(page.contains(option), "{option}");
        }
    }

    #[test]
    fn completions_know_every_command_and_option() {
        let dir = tempfile::tempdir().unwrap();
        let files = generate(What::Completions, dir.path()).unwrap();
        assert_eq!(files.len(), 3);
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let command = args::command();
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                assert!(
                    text.contains(sub.get_name()),
                    "{}: {}",
                    file.display(),
                    sub.get_name()
                );
            }
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                if let Some(long) = arg.get_long() {
                    assert!(text.contains(long), "{}: --{long}", file.display());
                }
            }
        }
        // A shell reads it.
        let bash = std::process::Command::new("bash")
            .arg("-n")
            .arg(dir.path().join("boxbuild.bash"))
            .status();
        assert!(bash.unwrap().success());
    }
}
