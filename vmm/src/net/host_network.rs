//! What a network learns of the host's: its name servers, and whether it has IPv6.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, PoisonError, RwLock};

use super::resolver;

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
            ipv6: host_has_ipv6(&routes),
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
    pub(super) fn name_server(&self, failures: usize) -> IpAddr {
        let servers = match &self.0 {
            Some(known) => {
                let known = known.read().unwrap_or_else(PoisonError::into_inner);
                known.name_servers.clone()
            }
            None => resolver::servers(),
        };
        let ip = servers.get(failures % servers.len().max(1)).copied();
        // Without any, the C library asks this host (resolv.conf(5)).
        ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    /// Whether the host has IPv6.
    pub(super) fn has_ipv6(&self) -> bool {
        match &self.0 {
            Some(known) => known.read().unwrap_or_else(PoisonError::into_inner).ipv6,
            None => HostFacts::look().ipv6,
        }
    }
}

/// Whether the host has a default route over IPv6: a line of `/proc/net/ipv6_route` for ::/0
/// that is up and leads somewhere (`RTF_UP`, not `RTF_REJECT`: linux/route.h).
fn host_has_ipv6(routes: &str) -> bool {
    const UP: u32 = 0x1;
    const REJECT: u32 = 0x200;
    routes.lines().any(|line| {
        let mut fields = line.split_ascii_whitespace();
        let is_default = fields
            .next()
            .is_some_and(|to| to.bytes().all(|b| b == b'0'))
            && fields.next() == Some("00");
        let flags = fields
            .nth(6)
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let leads = flags.is_some_and(|flags| flags & (UP | REJECT) == UP);
        is_default && leads && fields.next() != Some("lo")
    })
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
        assert_eq!(other.name_server(0), servers[0]);
        assert_eq!(other.name_server(1), servers[1]);
        assert_eq!(other.name_server(2), servers[0]);
        assert!(other.has_ipv6());
        host.set(HostFacts::default());
        assert_eq!(other.name_server(1), Ipv4Addr::LOCALHOST);
        assert!(!other.has_ipv6());
    }

    #[test]
    fn the_hosts_way_into_the_world() {
        let zeros = "0".repeat(32);
        let line = |to: &str, len: &str, flags: &str, interface: &str| {
            format!(
                "{to} {len} {zeros} 00 {zeros} 00000400 00000001 00000000 {flags} {interface}\n"
            )
        };
        assert!(host_has_ipv6(&line(&zeros, "00", "00000003", "eth0")));
        assert!(!host_has_ipv6(&line(&zeros, "00", "00200200", "lo")));
        assert!(!host_has_ipv6(&line(&zeros, "00", "00000003", "lo")));
        assert!(!host_has_ipv6(&line(
            &"f".repeat(32),
            "40",
            "00000001",
            "eth0"
        )));
        assert!(!host_has_ipv6("nonsense\n\n"));
    }
}
