//! The box's sshd, for somebody who wants to look into a box while it builds. The host's key opens
//! it, and nothing else does: no password, and no key that the box brings. What it needs is in
//! `/run`, so that a disk that outlives the machine keeps nothing of it.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::build::environment;
use super::control::Control;
use super::process::{How, Supervisor};

/// Where distributions have it; it must be called by its whole path (sshd(8)).
const PLACES: [&str; 4] = [
    "/usr/sbin/sshd",
    "/usr/local/sbin/sshd",
    "/usr/bin/sshd",
    "/sbin/sshd",
];

const FOLDER: &str = "/run/boxbuild";
const KEYS: &str = "/run/boxbuild/authorized_keys";
const HOST_KEY: &str = "/run/boxbuild/ssh_host_ed25519_key";
/// The host keys of boxes that have some.
const HOST_KEYS: &str = "/etc/ssh";

/// What holds whatever the box's `sshd_config` says: what comes first counts (sshd_config(5)).
const OPTIONS: [&str; 7] = [
    "PermitRootLogin=prohibit-password",
    "PubkeyAuthentication=yes",
    "AuthenticationMethods=publickey",
    "AuthorizedKeysFile=/run/boxbuild/authorized_keys",
    "AuthorizedKeysCommand=none",
    "AllowUsers=root",
    "Port=22",
];

/// How often, and how long apart, it is looked for where it listens: ten seconds.
const TRIES: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);

/// Starts it for the holder of `key`, a line of an `authorized_keys` file, and tells the host how
/// that went. A build goes on without it.
pub(super) fn start(key: &OsStr, supervisor: &mut Supervisor, control: &mut Control) {
    let Some(sshd) = PLACES.iter().find(|path| Path::new(path).exists()) else {
        control.report("ssh none");
        return;
    };
    let mut run = |mut command: Command| -> io::Result<bool> {
        command
            .env_clear()
            .envs(environment())
            .current_dir("/")
            .stdin(Stdio::null());
        let status = supervisor.run(command, How::Plain, control);
        Ok(status?.success())
    };
    let started = authorize(key).and_then(|()| {
        let mut command = Command::new(sshd);
        if !has_host_key() {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", HOST_KEY]);
            // Without a key, sshd says what it lacks.
            if let Err(error) = run(keygen) {
                eprintln!("boxbuild: cannot start ssh-keygen: {error}");
            }
            command.args(["-h", HOST_KEY]);
        }
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        // It goes to the background by itself, when it has found its configuration to be right,
        // and only then listens.
        Ok(run(command)? && listens())
    });
    if let Err(error) = &started {
        eprintln!("boxbuild: cannot start {sshd}: {error}");
    }
    control.report(match started {
        Ok(true) => "ssh ready",
        Ok(false) | Err(_) => "ssh failed",
    });
}

/// Waits until somebody listens on port 22; not for ever.
fn listens() -> bool {
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    (0..TRIES).any(|_| {
        let there = listens_in(&table("/proc/net/tcp")) || listens_in(&table("/proc/net/tcp6"));
        if !there {
            thread::sleep(PAUSE);
        }
        there
    })
}

/// Whether a listening socket of port 22 is in a table of Linux's (proc_net_tcp.rst in its
/// documentation: number, local and remote address as hexadecimal digits, state, of which 0A
/// is listening).
fn listens_in(table: &str) -> bool {
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        let local = words.nth(1).unwrap_or_default();
        local.ends_with(":0016") && words.nth(1) == Some("0A")
    })
}

fn authorize(key: &OsStr) -> io::Result<()> {
    let mut folder = DirBuilder::new();
    folder.recursive(true).mode(0o755).create(FOLDER)?;
    // Debian's sshd wants this one, which its service makes.
    folder.create("/run/sshd")?;
    fs::set_permissions("/run/sshd", Permissions::from_mode(0o755))?;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(KEYS)?.write_all(key.as_bytes())
}

fn has_host_key() -> bool {
    fs::read_dir(HOST_KEYS)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let name = entry.file_name();
            let name = name.as_bytes();
            name.starts_with(b"ssh_host_") && name.ends_with(b"_key")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_in_linuxs_table() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";
        let line = |local: &str, state: &str| {
            format!(
                "{head}   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000\n"
            )
        };
        assert!(listens_in(&line("00000000:0016", "0A")));
        assert!(listens_in(&line(
            "00000000000000000000000000000000:0016",
            "0A"
        )));
        // Connected; another port; nobody.
        assert!(!listens_in(&line("0100007F:0016", "01")));
        assert!(!listens_in(&line("00000000:0017", "0A")));
        assert!(!listens_in(head));
        assert!(!listens_in(""));
    }
}
