//! As whom podman runs: as the caller, or through sudo.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use boxbuild_host::program;
use nix::unistd::getuid;

use super::container::Mode;
use crate::unusable::Unusable;

/// How to run a program as the user who owns the container.
#[derive(Debug)]
pub(super) struct Caller {
    sudo: Option<PathBuf>,
}

impl Caller {
    /// Finds out whether sudo is needed, and that it will not ask in the middle of things. Only
    /// with `may_ask` it may ask now.
    pub(super) fn find(mode: Mode, may_ask: bool) -> Result<Caller, Unusable> {
        if mode == Mode::Rootless || getuid().is_root() {
            return Ok(Caller { sudo: None });
        }
        let alternative = "for image types that need no loop device (tbz, docker, oci, appx), use \
                           --rootless, which needs no root";
        let sudo = program::find("sudo").ok_or_else(|| {
            Unusable(format!(
                "a rootful container needs root, and the program sudo is not installed: run \
                 boxbuild as root; {alternative}"
            ))
        })?;
        if runs_quietly(&sudo) {
            return Ok(Caller { sudo: Some(sudo) });
        }
        if !may_ask && io::stdin().is_terminal() {
            return Err(Unusable(format!(
                "a rootful container needs root, and sudo will ask for your password; {alternative}"
            )));
        }
        if !io::stdin().is_terminal() {
            return Err(Unusable(format!(
                "a rootful container needs root, but sudo wants a password and there is no \
                 terminal to ask for it: allow podman and /bin/sh without one (sudoers, NOPASSWD), \
                 or run boxbuild as root; {alternative}"
            )));
        }
        // Asked here and now; what follows never asks.
        let asked = Command::new(&sudo).arg("-v").status();
        if asked.is_ok_and(|status| status.success()) && runs_quietly(&sudo) {
            return Ok(Caller { sudo: Some(sudo) });
        }
        Err(Unusable(format!(
            "a rootful container needs root, and sudo does not permit it; {alternative}"
        )))
    }

    /// Whether programs run through sudo.
    pub(super) fn uses_sudo(&self) -> bool {
        self.sudo.is_some()
    }

    /// The program sudo, if it is needed.
    pub(super) fn sudo(&self) -> Option<PathBuf> {
        self.sudo.clone()
    }

    /// A command as the user would type it.
    pub(super) fn in_words(&self, command: &str) -> String {
        format!("{}{command}", if self.uses_sudo() { "sudo " } else { "" })
    }

    /// A command that is not a part of the terminal's foreground: Ctrl-C is for boxbuild alone.
    pub(super) fn command(
        &self,
        program: &Path,
        args: impl IntoIterator<Item = OsString>,
    ) -> Command {
        let mut command = match &self.sudo {
            None => Command::new(program),
            Some(sudo) => {
                let mut command = Command::new(sudo);
                command.args([OsStr::new("-n"), OsStr::new("--"), program.as_os_str()]);
                command
            }
        };
        command.args(args).current_dir("/").process_group(0);
        command
    }
}

/// Whether sudo runs the reaper's shell without a password (`-v` says nothing of commands, and
/// may want one all the same).
fn runs_quietly(sudo: &Path) -> bool {
    Command::new(sudo)
        .args(["-n", "--", "/bin/sh", "-c", ":"])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success())
}
