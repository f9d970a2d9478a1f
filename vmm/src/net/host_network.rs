//! What a guest's network needs to know of the host's.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use serde::{Deserialize, Serialize};

use super::{neighbour, resolver};

/// What a guest's network needs to know of the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNetwork {
    /// Name servers, in their order. Without any, this host is asked.
    pub name_servers: Vec<IpAddr>,
    /// There is a way into the IPv6 world.
    pub ipv6: bool,
}

impl HostNetwork {
    /// Reads the host's configuration as it is now. A file that is not there says nothing.
    pub fn read() -> HostNetwork {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        HostNetwork {
            name_servers: resolver::parse(&text(resolver::FILE)),
            ipv6: neighbour::host_has_ipv6(&text(neighbour::ROUTES_6)),
        }
    }
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

    fn get(&self) -> RwLockReadGuard<'_, HostNetwork> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name server for the next question, after `failures` that were not answered.
    pub(super) fn name_server(&self, failures: usize) -> SocketAddr {
        resolver::server(&self.get().name_servers, failures)
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
        let known = CurrentNetwork::from(HostNetwork {
            name_servers: vec!["192.0.2.1".parse().unwrap()],
            ipv6: true,
        });
        let seen = known.clone();
        assert_eq!(seen.name_server(0).to_string(), "192.0.2.1:53");
        assert!(seen.has_ipv6());
        known.set(HostNetwork {
            name_servers: vec!["198.51.100.1".parse().unwrap()],
            ipv6: false,
        });
        assert_eq!(seen.name_server(0).to_string(), "198.51.100.1:53");
        assert!(!seen.has_ipv6());
    }
}
