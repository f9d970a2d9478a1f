//! The network of a machine, from what it may reach.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use boxbuild_vmm::net::{self, Handover, HostNetwork, Nat, NetworkConfig, Policy, Reach};

use crate::machine::Forward;
use crate::unusable::Unusable;

/// How often a host's network is read again: a laptop may come to another one while a build runs.
const INTERVAL: Duration = Duration::from_secs(5);

/// Follows the host's network, for a machine's that opens no file.
#[derive(Debug)]
pub(crate) struct NetworkWatch {
    known: HostNetwork,
    read: Instant,
}

impl NetworkWatch {
    /// Follows it from where it was `known`.
    pub(crate) fn new(known: HostNetwork) -> NetworkWatch {
        NetworkWatch {
            known,
            read: Instant::now(),
        }
    }

    /// Reads the host's network if it is time to, and tells it if it has changed. What `tell` could not
    /// pass on (`false`) is told again the next time.
    pub(crate) fn look(&mut self, tell: impl FnOnce(&HostNetwork) -> bool) {
        if self.read.elapsed() >= INTERVAL {
            self.read = Instant::now();
            self.compare(HostNetwork::read(), tell);
        }
    }

    fn compare(&mut self, now: HostNetwork, tell: impl FnOnce(&HostNetwork) -> bool) {
        if self.known != now && tell(&now) {
            self.known = now;
        }
    }
}

/// Returns the configuration of a network that reaches what `policy` says. The host's own is read now.
pub(crate) fn network(
    policy: Policy,
    forward: Option<Forward>,
    handover: Option<Handover>,
) -> NetworkConfig {
    NetworkConfig {
        policy,
        host: HostNetwork::read().into(),
        forward: forward.map(|forward| net::Forward {
            listener: forward.listener,
            port: forward.port,
        }),
        handover,
    }
}

/// What the networks of machines reach from this host, in words; one line each.
///
/// # Errors
/// If this host cannot limit a network.
pub fn describe_networks() -> Result<String, Unusable> {
    let policy = Policy {
        reach: Reach::Public,
        ..Policy::default()
    };
    let limited = NetworkConfig {
        policy,
        ..NetworkConfig::default()
    };
    Nat::new(limited).map_err(|error| {
        let cause = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        Unusable(format!(
            "--network public does not work here: {error}: {cause}"
        ))
    })?;
    let host = HostNetwork::read();
    let versions = match (host.ipv4, host.ipv6) {
        (true, true) => "IPv4 and IPv6",
        (false, true) => "IPv6",
        (true, false) => "IPv4",
        (false, false) => "no way out of this host",
    };
    let servers = match host.resolver.servers.as_slice() {
        [] => String::from("name server: this host"),
        servers => {
            let words: Vec<String> = servers.iter().map(|server| without_port(*server)).collect();
            format!("name servers: {}", words.join(", "))
        }
    };
    Ok(format!(
        "{versions}, {servers}\n\
         --network user: what this host reaches, private networks included\n\
         --network public: the Internet, no private network, no address of this host\n\
         --allow HOST[:PORT]: nothing else\n\
         never: this host's loopback (but for the proxy of a variable), link-local addresses, the \
         metadata services of clouds\n\
         a container (--container) has such a network where there is /dev/net/tun, else the host's; neither \
         can be limited"
    ))
}

/// An address as it is in resolv.conf(5), with the number of its interface.
fn without_port(server: SocketAddr) -> String {
    match server {
        SocketAddr::V6(server) if server.scope_id() != 0 => {
            format!("{}%{}", server.ip(), server.scope_id())
        }
        server => server.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_vmm::net::Resolver;

    use super::*;

    #[test]
    fn a_change_of_the_hosts_network_is_told_until_it_is_heard_and_then_no_more() {
        let host = |server: &str| HostNetwork {
            resolver: Resolver {
                servers: vec![format!("{server}:53").parse().unwrap()],
                ..Resolver::default()
            },
            ..HostNetwork::default()
        };
        let mut watch = NetworkWatch::new(host("192.0.2.1"));
        let mut told = Vec::new();
        for (now, heard) in [
            ("192.0.2.1", true),
            ("198.51.100.1", false),
            ("198.51.100.1", true),
            ("198.51.100.1", true),
            ("192.0.2.1", true),
        ] {
            watch.compare(host(now), |now| {
                told.push((now.resolver.servers[0].ip().to_string(), heard));
                heard
            });
        }
        let told: Vec<_> = told
            .iter()
            .map(|(to, heard)| (to.as_str(), *heard))
            .collect();
        assert_eq!(
            told,
            [
                ("198.51.100.1", false),
                ("198.51.100.1", true),
                ("192.0.2.1", true)
            ]
        );
    }
}
