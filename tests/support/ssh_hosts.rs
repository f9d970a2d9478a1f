//! Hosts that are reached by ssh: each an sshd of its own on the loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;

use crate::command::{command, find, output, require};
use crate::daemons::{Daemon, descendants, signal_all, wait_until};
use crate::slurm::free_port;

/// Where sshd locks itself in as root (sshd(8), FILES).
const PRIVILEGE_SEPARATION: &str = "/run/sshd";

/// Hosts `one`, `two`, and so on.
#[derive(Debug)]
pub struct Hosts {
    folder: PathBuf,
    servers: Vec<(String, Option<Daemon>)>,
}

impl Hosts {
    /// Starts an sshd for each name in `folder`.
    ///
    /// # Errors
    /// Says what is not there.
    pub fn start(folder: &Path, names: &[&str]) -> Result<Hosts, String> {
        let tools = [
            ("sshd", "openssh-server"),
            ("ssh", "openssh-client"),
            ("ssh-keygen", "openssh-client"),
        ];
        require(tools).map_err(|error| error.to_string())?;
        if nix::unistd::geteuid().is_root() && !Path::new(PRIVILEGE_SEPARATION).exists() {
            fs::create_dir(PRIVILEGE_SEPARATION).map_err(|error| error.to_string())?;
        }
        fs::create_dir_all(folder).unwrap();
        for key in ["host-key", "user-key"] {
            let path = folder.join(key);
            output(
                command("ssh-keygen")
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(path),
            )
            .map_err(|error| error.to_string())?;
        }
        let mut hosts = Hosts {
            folder: folder.to_owned(),
            servers: Vec::new(),
        };
        let mut client = String::new();
        for name in names {
            let port = free_port();
            let file = |name: &str| folder.join(name).display().to_string();
            client += &format!(
                "Host {name}\n  HostName 127.0.0.1\n  Port {port}\n  IdentityFile {}\n  \
                 IdentitiesOnly yes\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  \
                 LogLevel ERROR\n",
                file("user-key")
            );
            let server = format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\n\
                 StrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n\
                 PidFile none\nPrintMotd no\nMaxStartups 100\n",
                file("host-key"),
                file("user-key.pub"),
            );
            fs::write(folder.join(format!("{name}.conf")), server).unwrap();
            hosts.servers.push(((*name).to_owned(), None));
        }
        fs::write(folder.join("client.conf"), client).unwrap();
        for name in names {
            hosts.start_one(name);
        }
        Ok(hosts)
    }

    /// Starts the sshd of a host, and waits until it answers.
    pub fn start_one(&mut self, name: &str) {
        let conf = self.folder.join(format!("{name}.conf"));
        let sshd = find("sshd").expect("it was there");
        let log = self.folder.join(format!("{name}.log"));
        let server = Daemon::start(Command::new(sshd).args(["-D", "-e", "-f"]).arg(conf), &log);
        wait_until(
            "an sshd that answers",
            || server.said(),
            || {
                let mut ssh = command("ssh");
                ssh.arg("-F").arg(self.client()).args([name, "true"]);
                output(&mut ssh).is_ok()
            },
        );
        let host = self.servers.iter_mut().find(|(host, _)| host == name);
        host.expect("a host").1 = Some(server);
    }

    /// The configuration of ssh with the hosts.
    pub fn client(&self) -> PathBuf {
        self.folder.join("client.conf")
    }

    /// Kills sshd and its sessions: no host is there any more. What they have started goes on.
    pub fn cut(&mut self, name: &str) {
        let host = self.servers.iter_mut().find(|(host, _)| host == name);
        let Some(server) = host.and_then(|(_, server)| server.take()) else {
            return;
        };
        let mut sessions = descendants(server.pid());
        sessions.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim().starts_with("sshd"))
        });
        signal_all(&sessions, Signal::SIGKILL);
    }

    /// Kills everything on a host at once.
    pub fn kill(&mut self, name: &str) {
        let host = self.servers.iter_mut().find(|(host, _)| host == name);
        if let Some(server) = host.and_then(|(_, server)| server.take()) {
            signal_all(&descendants(server.pid()), Signal::SIGKILL);
        }
    }

    /// Sends a signal to everything on a host.
    pub fn signal(&self, name: &str, signal: Signal) {
        let host = self.servers.iter().find(|(host, _)| host == name);
        if let Some(server) = host.and_then(|(_, server)| server.as_ref()) {
            let mut all = descendants(server.pid());
            all.push(server.pid());
            signal_all(&all, signal);
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for (_, server) in &self.servers {
            if let Some(server) = server {
                signal_all(&descendants(server.pid()), Signal::SIGKILL);
            }
        }
    }
}
