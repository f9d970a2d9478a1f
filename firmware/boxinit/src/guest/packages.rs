//! Packages that a build wants in its box.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use super::control::Control;
use super::environment::Environment;
use super::error::GuestError;
use super::process::{SpawnMode, Supervisor};

/// A package manager, with the commands that install packages with it.
struct Manager {
    program: &'static str,
    steps: &'static [&'static [&'static str]],
}

/// The first that the box has is taken. The scripts in `firmware/guest` have the same list.
const MANAGERS: [Manager; 4] = [
    Manager {
        program: "apt-get",
        steps: &[
            &["-q", "update"],
            &["-q", "-y", "--no-install-recommends", "install"],
        ],
    },
    Manager {
        program: "dnf",
        steps: &[&["-y", "--setopt=install_weak_deps=False", "install"]],
    },
    Manager {
        program: "zypper",
        steps: &[&["--non-interactive", "install", "--no-recommends"]],
    },
    Manager {
        program: "microdnf",
        steps: &[&["-y", "install"]],
    },
];

/// Where programs of a package manager are.
const FOLDERS: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin"];

/// Installs `packages` in the box.
///
/// # Errors
/// Fails if the box has no package manager, or it fails.
pub(super) fn install(
    packages: &[OsString],
    environment: &Environment,
    supervisor: &mut Supervisor,
    control: &mut Control,
) -> Result<(), GuestError> {
    let named: Vec<_> = packages
        .iter()
        .map(|name| name.display().to_string())
        .collect();
    let named = named.join(" ");
    let manager = MANAGERS.iter().find(|manager| {
        FOLDERS
            .iter()
            .any(|folder| Path::new(folder).join(manager.program).exists())
    });
    let Some(manager) = manager else {
        return Err(GuestError::Failed(format!(
            "cannot install {named} (--box-package): the box has none of apt-get, dnf, zypper, microdnf"
        )));
    };
    for (number, words) in manager.steps.iter().enumerate() {
        let mut command = Command::new(manager.program);
        command
            .env_clear()
            .envs(environment.iter().cloned())
            .env("DEBIAN_FRONTEND", "noninteractive")
            .current_dir("/")
            .stdin(std::process::Stdio::null())
            .args(*words);
        if number + 1 == manager.steps.len() {
            command.args(packages);
        }
        let status = supervisor.run(command, SpawnMode::NoSync, control);
        let how = match status {
            Ok(status) if status.success() => continue,
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        return Err(GuestError::Failed(format!(
            "cannot install {named} (--box-package): {} {}: {how}",
            manager.program,
            words.last().unwrap_or(&"")
        )));
    }
    Ok(())
}
