//! What a guest's network needs to know of the host's.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use super::default_route;
use super::dns::{self, HostName, Resolver};

/// Bytes of a file that are read.
const LARGEST: u64 = 1 << 20;

/// What a guest's network needs to know of the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    /// How names are resolved.
    pub resolver: Resolver,
    /// Names that need no name server.
    pub hosts: Vec<HostName>,
    /// There is a way into the IPv4 world.
    pub ipv4: bool,
    /// There is a way into the IPv6 world.
    pub ipv6: bool,
}

impl HostNetwork {
    /// Reads the host's configuration as it is now. A file that is not there says nothing.
    pub fn read() -> HostNetwork {
        HostNetwork {
            resolver: Resolver::parse(&text(dns::RESOLV_CONF), dns::interface),
            hosts: dns::parse_hosts(&text(dns::HOSTS)),
            ipv4: default_route::host_has_ipv4(&text(default_route::ROUTES_4)),
            ipv6: default_route::host_has_ipv6(&text(default_route::ROUTES_6)),
        }
    }
}

/// The text of a regular file, as far as it is of a sensible size.
fn text(path: &str) -> String {
    let mut bytes = Vec::new();
    // Whatever is in its place: opening does not wait.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    if let Ok(file) = file
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        // What was read before an error counts.
        let _ = file.take(LARGEST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The host's network as it was last seen: hosts move between networks. Clones share the value. What
/// runs the network opens no file; the owner of the machine reads them and calls [`set`](Self::set).
#[derive(Debug, Clone, Default)]
pub struct CurrentNetwork(Arc<RwLock<HostNetwork>>);

impl CurrentNetwork {
    /// Replaces the value, for questions and connections from now on.
    pub fn set(&self, now: HostNetwork) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn get(&self) -> RwLockReadGuard<'_, HostNetwork> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a way into the IPv6 world.
    pub(super) fn has_ipv6(&self) -> bool {
        self.get().ipv6
    }
}

impl From<HostNetwork> for CurrentNetwork {
    fn from(now: HostNetwork) -> CurrentNetwork {
        CurrentNetwork(Arc::new(RwLock::new(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_see_where_the_host_has_come_to() {
        let network = |server: &str, ipv6| HostNetwork {
            resolver: Resolver {
                servers: vec![server.parse().unwrap()],
                ..Resolver::default()
            },
            ipv6,
            ..HostNetwork::default()
        };
        let known = CurrentNetwork::from(network("192.0.2.1:53", true));
        let seen = known.clone();
        assert_eq!(*seen.get(), network("192.0.2.1:53", true));
        assert!(seen.has_ipv6());
        known.set(network("198.51.100.1:53", false));
        assert_eq!(*seen.get(), network("198.51.100.1:53", false));
        assert!(!seen.has_ipv6());
    }

    #[test]
    fn what_is_no_file_says_nothing_and_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [fifo.to_str().unwrap(), "/dev/zero", "/", "/does/not/exist"] {
            assert_eq!(text(path), "", "{path}");
        }
        assert!(text("/proc/net/route").starts_with("Iface"));
    }
}
