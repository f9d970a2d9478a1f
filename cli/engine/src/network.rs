//! The network of a machine, from what it may reach.

use boxbuild_vmm::net::{self, HostNetwork, Nat, NetworkConfig, Policy, Reach};

use crate::machine::Forward;
use crate::unusable::Unusable;

/// Returns the configuration of a network that reaches what `policy` says. The host's own is read now.
pub(crate) fn network(policy: Policy, forward: Option<Forward>) -> NetworkConfig {
    NetworkConfig {
        policy,
        host: HostNetwork::read(),
        forward: forward.map(|forward| net::Forward {
            listener: forward.listener,
            port: forward.port,
        }),
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
    let versions = if host.ipv6 { "IPv4 and IPv6" } else { "IPv4" };
    let servers = match host.name_servers.as_slice() {
        [] => String::from("name server: this host"),
        servers => {
            let words: Vec<String> = servers.iter().map(ToString::to_string).collect();
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
         a container (--container) has the host's network, which cannot be limited"
    ))
}
