//! What a network learns of the host's: its name servers, and whether it has IPv6.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use super::addresses::DNS_PORT;
use super::{neighbour, resolver};

/// What the host's network is like. Clones are the same value.
#[derive(Debug, Clone, Default)]
pub struct HostNetwork(Option<Arc<RwLock<HostFacts>>>);

/// What is to be known of the host's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Name servers, in their order.
    pub name_servers: Vec<IpAddr>,
    /// Whether there is a default route over IPv6.
    pub ipv6: bool,
}

impl HostFacts {
    /// Looks at this host.
    pub fn look() -> HostFacts {
        let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
        HostFacts {
            name_servers: resolver::servers(),
            ipv6: neighbour::host_has_ipv6(&routes),
        }
    }
}

impl HostNetwork {
    /// Returns a value that its owner keeps up to date with [`set`](Self::set): for a process that
    /// cannot look itself. The default looks at the host whenever something is asked.
    pub fn given(facts: HostFacts) -> HostNetwork {
        HostNetwork(Some(Arc::new(RwLock::new(facts))))
    }

    /// Says what the host's network is like from now on.
    pub fn set(&self, facts: HostFacts) {
        if let Some(known) = &self.0 {
            *known.write().unwrap_or_else(PoisonError::into_inner) = facts;
        }
    }

    /// Returns the name server for the next question, after `failures` that were not answered: they
    /// take turns then. Found out anew each time, because hosts move between networks.
    pub(super) fn name_server(&self, failures: usize) -> SocketAddr {
        let servers = match &self.0 {
            Some(known) => {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                known.name_servers.clone()
            }
            None => resolver::servers(),
        };
        let ip = servers.get(failures % servers.len().max(1)).copied();
        // Without any, the C library asks this host (resolv.conf(5)).
        SocketAddr::new(ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), DNS_PORT)
    }

    /// Whether the host has IPv6.
    pub(super) fn has_ipv6(&self) -> bool {
        match &self.0 {
            Some(known) => known.read().unwrap_or_else(PoisonError::into_inner).ipv6,
            None => HostFacts::look().ipv6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_name_servers_take_turns_and_can_change() {
        let servers: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2"]
            .map(|ip| ip.parse().unwrap())
            .to_vec();
        let host = HostNetwork::given(HostFacts {
            name_servers: servers.clone(),
            ipv6: true,
        });
        let other = host.clone();
        assert_eq!(other.name_server(0).ip(), servers[0]);
        assert_eq!(other.name_server(1).ip(), servers[1]);
        assert_eq!(other.name_server(2), SocketAddr::new(servers[0], 53));
        assert!(other.has_ipv6());
        host.set(HostFacts::default());
        assert_eq!(other.name_server(1).ip(), Ipv4Addr::LOCALHOST);
        assert!(!other.has_ipv6());
    }
}
