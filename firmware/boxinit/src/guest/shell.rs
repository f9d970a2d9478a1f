//! The interactive shell on the console.

use std::path::Path;
use std::process::Command;

use boxbuild_protocol::report::{GuestPhase, Report};

use super::control::Control;
use super::environment;
use super::process::{SpawnMode, Supervisor};

/// Runs a root shell and waits for its end.
pub(super) fn run(supervisor: &mut Supervisor, control: &mut Control) {
    control.report(Report::Phase(GuestPhase::Shell));
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
        .envs(environment::base())
        .env("TERM", "linux")
        .current_dir("/root");
    if !Path::new("/root").is_dir() {
        command.current_dir("/");
    }
    if let Err(error) = supervisor.run(command, SpawnMode::OnTerminal, control) {
        eprintln!("boxbuild: cannot start {shell}: {error}");
    }
}
