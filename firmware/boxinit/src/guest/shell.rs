//! A shell for people, on the console.

use std::path::Path;
use std::process::Command;

use super::build::environment;
use super::control::Control;
use super::process::{How, Supervisor};

/// Runs a root shell until it ends.
pub(super) fn run(supervisor: &mut Supervisor, control: &mut Control) {
    control.report("phase shell");
    let shell = ["/bin/bash", "/bin/sh"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(shell) = shell else {
        eprintln!("boxbuild: the box has no shell");
        return;
    };
    let mut command = Command::new(shell);
    command
        .arg("-i")
        .env_clear()
        .envs(environment())
        .env("TERM", "linux")
        .current_dir("/root");
    if !Path::new("/root").is_dir() {
        command.current_dir("/");
    }
    if let Err(error) = supervisor.run(command, How::OnTerminal, control) {
        eprintln!("boxbuild: cannot start {shell}: {error}");
    }
}
