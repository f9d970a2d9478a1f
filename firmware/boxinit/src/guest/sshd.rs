//! The box's sshd, for debugging a build while it runs (`--ssh-port`). It accepts the host's key
//! only: no password, and no key that the box brings. Its files are in `/run`, so that a disk that
//! outlives the machine keeps nothing of them.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use boxbuild_protocol::report::{Report, Sshd};

use super::control::Control;
use super::environment;
use super::process::{SpawnMode, Supervisor};

/// Paths in the distributions. sshd must be called by its absolute path (sshd(8)).
const PROGRAMS: [&str; 4] = [
    "/usr/sbin/sshd",
    "/usr/local/sbin/sshd",
    "/usr/bin/sshd",
    "/sbin/sshd",
];

const FOLDER: &str = boxbuild_protocol::paths::RUN;
const KEYS: &str = "/run/boxbuild/authorized_keys";
const HOST_KEY: &str = "/run/boxbuild/ssh_host_ed25519_key";
/// Folder of the box's own host keys.
const BOX_HOST_KEYS: &str = "/etc/ssh";

/// Options that override the box's `sshd_config`: the first value counts (sshd_config(5)).
const OPTIONS: [&str; 7] = [
    "PermitRootLogin=prohibit-password",
    "PubkeyAuthentication=yes",
    "AuthenticationMethods=publickey",
    "AuthorizedKeysFile=/run/boxbuild/authorized_keys",
    "AuthorizedKeysCommand=none",
    "AllowUsers=root",
    "Port=22",
];

/// How often and at which interval the port is checked: for ten seconds.
const TRIES: u32 = 200;
const INTERVAL: Duration = Duration::from_millis(50);

/// Starts sshd for the holder of `key`, a line of an `authorized_keys` file, and reports the
/// outcome. A failure does not stop the build.
pub(super) fn start(key: &OsStr, supervisor: &mut Supervisor, control: &mut Control) {
    let Some(sshd) = PROGRAMS.iter().find(|path| Path::new(path).exists()) else {
        control.report(Report::Sshd(Sshd::None));
        return;
    };
    let mut run = |mut command: Command| -> io::Result<bool> {
        command
            .env_clear()
            .envs(environment::base())
            .current_dir("/")
            .stdin(Stdio::null());
        let status = supervisor.run(command, SpawnMode::Plain, control);
        Ok(status?.success())
    };
    let started = authorize(key).and_then(|()| {
        let mut command = Command::new(sshd);
        if !has_host_key() {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", HOST_KEY]);
            // Without a key, sshd reports on the console what it lacks.
            if let Err(error) = run(keygen) {
                eprintln!("boxbuild: cannot start ssh-keygen: {error}");
            }
            command.args(["-h", HOST_KEY]);
        }
        for option in OPTIONS {
            command.args(["-o", option]);
        }
        // sshd daemonizes once its configuration is valid, and listens only after that.
        Ok(run(command)? && wait_for_listener())
    });
    if let Err(error) = &started {
        eprintln!("boxbuild: cannot start {sshd}: {error}");
    }
    control.report(Report::Sshd(match started {
        Ok(true) => Sshd::Ready,
        Ok(false) | Err(_) => Sshd::Failed,
    }));
}

/// Waits for a listener on port 22. Returns whether there is one.
fn wait_for_listener() -> bool {
    let table = |path| fs::read_to_string(path).unwrap_or_default();
    (0..TRIES).any(|_| {
        let found = has_listener(&table("/proc/net/tcp")) || has_listener(&table("/proc/net/tcp6"));
        if !found {
            thread::sleep(INTERVAL);
        }
        found
    })
}

/// Whether a table of TCP sockets has a listener on port 22 (Linux,
/// Documentation/networking/proc_net_tcp.rst: number, local and remote address in hexadecimal,
/// state; 0A is listening).
fn has_listener(table: &str) -> bool {
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        let local = words.nth(1).unwrap_or_default();
        local.ends_with(":0016") && words.nth(1) == Some("0A")
    })
}

/// Writes the key, and makes the folders that sshd needs.
fn authorize(key: &OsStr) -> io::Result<()> {
    let mut folder = DirBuilder::new();
    folder.recursive(true).mode(0o755).create(FOLDER)?;
    // Debian's sshd requires this one; its service creates it otherwise.
    folder.create("/run/sshd")?;
    fs::set_permissions("/run/sshd", Permissions::from_mode(0o755))?;
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(KEYS)?.write_all(key.as_bytes())
}

fn has_host_key() -> bool {
    fs::read_dir(BOX_HOST_KEYS)
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
    fn a_listener_is_found_in_the_kernels_table() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n";
        let line = |local: &str, state: &str| {
            format!(
                "{head}   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000\n"
            )
        };
        assert!(has_listener(&line("00000000:0016", "0A")));
        assert!(has_listener(&line(
            "00000000000000000000000000000000:0016",
            "0A"
        )));
        // A connection; another port; no socket at all.
        assert!(!has_listener(&line("0100007F:0016", "01")));
        assert!(!has_listener(&line("00000000:0017", "0A")));
        assert!(!has_listener(head));
        assert!(!has_listener(""));
    }
}
