//! Running programs of the host.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// Folders of system programs, which are not in the `PATH` of a normal user.
const SYSTEM: [&str; 2] = ["/usr/sbin", "/sbin"];

/// `PATH` with the folders of system programs.
pub fn search_path() -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(SYSTEM.map(PathBuf::from));
    std::env::join_paths(folders).unwrap_or(path)
}

/// A command that finds system programs, too, and speaks English.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env("PATH", search_path())
        .env("LC_ALL", "C")
        .stdin(Stdio::null());
    command
}

/// `command` again, with the limit of descriptors that its processes have each. By a shell: the lab has
/// no prlimit.
pub fn with_descriptors(command: &Command, limit: usize) -> Command {
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -n \"$0\" && exec \"$@\""])
        .arg(limit.to_string())
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// Finds a program in [`search_path`].
///
/// # Errors
/// If it is not there.
pub fn find(program: &str) -> Result<PathBuf> {
    which::which_in(program, Some(search_path()), "/")
        .with_context(|| format!("{program} is not in PATH"))
}

/// Fails unless all programs are there; `tools` are pairs of a program and its Debian package.
///
/// # Errors
/// Names the packages that are to be installed.
pub fn require<'a>(tools: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<()> {
    let missing: Vec<&str> = tools
        .into_iter()
        .filter(|(program, _)| find(program).is_err())
        .map(|(_, package)| package)
        .collect();
    if !missing.is_empty() {
        bail!("install the packages: {}", missing.join(" "));
    }
    Ok(())
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// If it cannot be started or fails, with the last lines of its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command)?;
    if !output.status.success() {
        bail!(
            "{}: {}\n{}",
            command.get_program().display(),
            output.status,
            last_lines(&String::from_utf8_lossy(&output.stderr), 40)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a command to its end, with all that it prints in the file `log`.
///
/// # Errors
/// If it cannot be started or fails, with the last lines of the log.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    command.stderr(file.try_clone()?).stdout(file);
    let status = run(command)?.status;
    if !status.success() {
        let text = std::fs::read(log).unwrap_or_default();
        bail!(
            "{}: {status}\n{}",
            command.get_program().display(),
            last_lines(&String::from_utf8_lossy(&text), 40)
        );
    }
    Ok(())
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn run(command: &mut Command) -> Result<Output> {
    let name = command.get_program().display().to_string();
    let child = interrupt::start(command).with_context(|| format!("cannot start {name}"))?;
    child
        .wait_with_output()
        .with_context(|| format!("cannot wait for {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_what_the_program_said() {
        let error = output(command("sh").args(["-c", "echo no luck >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no luck") && text.contains('3'), "{text}");
    }

    #[test]
    fn packages_of_missing_programs_are_named() {
        let tools = [("sh", "dash"), ("no-such-program", "some-package")];
        let text = require(tools).unwrap_err().to_string();
        assert_eq!(text, "install the packages: some-package");
    }
}
