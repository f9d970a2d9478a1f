//! The way into a box by ssh: a port of this host's 127.0.0.1 that leads to the box's port 22
//! (`--ssh-port`), and the key that opens it (`--ssh-key`).

mod key;

use boxbuild_host::error::{Classify, ErrorClass};
use std::io;
use std::net::{Ipv4Addr, TcpListener};

use boxbuild_engine::Network;
use serde::Serialize;

use crate::boot::Boot;
use crate::host_facts::HostFacts;
use crate::request::BuildRequest;

pub use key::PublicKey;

/// Port of the box's sshd (RFC 4253, section 4.1).
pub const SSHD: u16 = 22;

/// How a box is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ssh {
    /// Port of 127.0.0.1; 0 is any that is free.
    pub port: u16,
    /// The key whose private half logs in as root.
    #[serde(serialize_with = "key::path")]
    pub key: Option<PublicKey>,
    /// The key was named with `--ssh-key`.
    #[serde(skip)]
    named: bool,
}

/// The port cannot be taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on 127.0.0.1:{port} (--ssh-port){}", advice(.source))]
pub struct PortError {
    port: u16,
    #[source]
    source: io::Error,
}

impl Classify for PortError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": the port is in use: choose another one, or 0 for any free one"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 are reserved for root: choose another one, or 0 for any free one"
        }
        _ => "",
    }
}

impl Ssh {
    /// Returns the way in that `request` asks for.
    ///
    /// # Errors
    /// Fails, with a message for the user, if the box has no network or the key cannot be used.
    pub fn wanted(request: &BuildRequest, host: &HostFacts) -> Result<Option<Ssh>, String> {
        let Some(wanted) = &request.ssh else {
            return Ok(None);
        };
        if request.network == Network::None {
            return Err(String::from(
                "--ssh-port: a box with --network none cannot be reached: leave one of the two \
                 options out",
            ));
        }
        let keys = host.ssh_keys.as_deref();
        let key = match wanted.key.as_deref() {
            // kiwi-ng looks at the key with --sshfs-sharing only: scripts name one that is not there.
            Some(name) if PublicKey::is_missing(name, keys) => None,
            Some(name) => Some(PublicKey::named(name, keys)?),
            None => keys.and_then(PublicKey::usual),
        };
        Ok(Some(Ssh {
            port: wanted.port,
            key,
            named: wanted.key.is_some(),
        }))
    }

    /// What the user should know of a box that is brought up by `boot`.
    pub fn notes(&self, boot: Boot) -> Vec<String> {
        let mut notes = Vec::new();
        if self.key.is_none() && self.named {
            notes.push(String::from(
                "--ssh-key: there is no key of this name in ~/.ssh: the box does not know you",
            ));
        } else if self.key.is_none() {
            notes.push(String::from(
                "--ssh-port: there is no public key in ~/.ssh for logging in to the box: name one \
                 with --ssh-key (ssh-keygen creates one)",
            ));
        }
        if boot == Boot::Compat {
            notes.push(String::from(
                "--ssh-port: this box starts its own sshd, if it has one, with its own \
                 configuration: it may accept passwords, those of published boxes are public, and \
                 every user of this host can reach the port",
            ));
        }
        notes
    }

    /// Binds the port on 127.0.0.1.
    ///
    /// # Errors
    /// Fails if it is in use, or not for this user.
    pub fn listen(&self) -> Result<TcpListener, PortError> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).map_err(|source| PortError {
            port: self.port,
            source,
        })
    }

    /// The command that leads into a box behind `port`. Each build has its own key of the host, which
    /// would be news to ssh each time.
    pub fn command(&self, port: u16) -> String {
        let private = self.key.as_ref().filter(|_| self.named);
        let identity = private
            .and_then(PublicKey::private)
            .map_or_else(String::new, |path| {
                format!("-i {} ", shell_words::quote(&path.to_string_lossy()))
            });
        format!("ssh -p {port} {identity}-o NoHostAuthenticationForLocalhost=yes root@127.0.0.1")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::plan::tests::{host, request};
    use crate::request::SshRequest;

    fn wanted(port: u16, key: Option<&str>) -> Result<Option<Ssh>, String> {
        let mut request = request();
        request.ssh = Some(SshRequest {
            port,
            key: key.map(Into::into),
        });
        Ssh::wanted(&request, &host())
    }

    #[test]
    fn nothing_listens_unless_it_is_asked_for() {
        assert_eq!(Ssh::wanted(&request(), &host()), Ok(None));
        let mut alone = request();
        alone.network = Network::None;
        alone.ssh = Some(SshRequest {
            port: 10022,
            key: None,
        });
        let error = Ssh::wanted(&alone, &host()).unwrap_err();
        assert!(error.contains("--network none"), "{error}");
        let error = wanted(10022, Some("/nowhere/key")).unwrap_err();
        assert!(error.starts_with("--ssh-key /nowhere/key: "), "{error}");
        // A name as kiwi-ng has it need not be there.
        let missing = wanted(10022, Some("no_such_key")).unwrap().unwrap();
        assert_eq!(missing.key, None);
        assert!(missing.notes(Boot::Fast)[0].starts_with("--ssh-key: "));
    }

    #[test]
    fn the_key_and_the_command() {
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join("key");
        fs::write(dir.path().join("key.pub"), key::tests::key_line()).unwrap();
        fs::write(&private, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let ssh = wanted(0, private.to_str()).unwrap().unwrap();
        assert!(ssh.notes(Boot::Fast).is_empty());
        assert!(ssh.notes(Boot::Compat)[0].contains("passwords"));
        let command = ssh.command(10022);
        let identity = format!("-i {} ", private.display());
        assert!(command.starts_with("ssh -p 10022 ") && command.contains(&identity));
        assert!(command.ends_with(" root@127.0.0.1"));
        // The user's own key is what ssh tries anyhow.
        let usual = Ssh {
            named: false,
            ..ssh
        };
        assert!(!usual.command(1).contains("-i "));
    }

    #[test]
    fn only_the_loopback_listens_and_a_port_in_use_is_reported() {
        let any = Ssh {
            port: 0,
            key: None,
            named: false,
        };
        let listener = any.listen().unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
        assert_ne!(address.port(), 0);
        let same = Ssh {
            port: address.port(),
            ..any
        };
        let error = same.listen().unwrap_err().to_string();
        assert!(
            error.contains(&format!("127.0.0.1:{}", address.port())) && error.contains("another"),
            "{error}"
        );
        drop(listener);
        assert!(same.listen().is_ok());
    }
}
