//! Under which names answers are kept.

use std::net::SocketAddr;

use boxbuild_host::digest::hex;
use sha2::{Digest, Sha256};

/// What an answer is to: a server and an address there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    text: String,
    hash: String,
    /// Hash of the server.
    server: String,
}

/// Which server has answered. A guest chooses both the address that it connects to and the name that it
/// says there: they belong together only if the host's own name servers say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server<'a> {
    /// One that has this name and port, by the host's name servers.
    Named(&'a str),
    /// One that a proxy of the user's has asked under this name.
    Proxied(&'a str),
    /// Some server at this address that was called so.
    At(SocketAddr, &'a str),
}

impl Key {
    pub(crate) fn new(server: Server<'_>, target: &str) -> Key {
        // A host and a target have no space.
        let server = match server {
            Server::Named(host) => format!("named {host}"),
            Server::Proxied(host) => format!("proxied {host}"),
            Server::At(address, host) => format!("at {address} {host}"),
        };
        let text = format!("{server} {target}");
        Key {
            hash: hex(&Sha256::digest(&text)),
            server: hex(&Sha256::digest(&server)),
            text,
        }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn entry(&self) -> String {
        format!("{}{}", self.hash, super::suffix::ENTRY)
    }

    /// The file whose time is that of the last change of the server's lists of packages.
    pub(super) fn changes(&self) -> String {
        format!("{}{}", self.server, super::suffix::SERVER)
    }

    pub(super) fn part(&self) -> String {
        format!(".{}{}", self.hash, super::suffix::PART)
    }

    pub(super) fn head(&self) -> String {
        format!(".{}{}", self.hash, super::suffix::HEAD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_only_says_so_has_names_of_its_own() {
        let evil: SocketAddr = "192.0.2.66:80".parse().unwrap();
        let host = "deb.example.org";
        let keys = [
            Key::new(Server::Named(host), "/a"),
            Key::new(Server::At(evil, host), "/a"),
            Key::new(Server::At("192.0.2.1:80".parse().unwrap(), host), "/a"),
            Key::new(Server::Proxied(host), "/a"),
            Key::new(Server::Named(host), "/b"),
            Key::new(Server::Named("other.example.org"), "/a"),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(
                !keys[at + 1..]
                    .iter()
                    .any(|other| other.entry() == one.entry())
            );
        }
    }
}
