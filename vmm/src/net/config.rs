//! How the guest is connected, and what its driver can do.

use std::net::{IpAddr, TcpListener};

use serde::{Deserialize, Serialize};

use super::policy::Policy;
use super::{neighbour, resolver};

/// The configuration of a guest's network: values, and one descriptor. Nothing else of the host is
/// looked at while it runs.
#[derive(Debug, Default)]
pub struct NetworkConfig {
    /// What the guest may reach.
    pub policy: Policy,
    /// What the host's own network has.
    pub host: HostNetwork,
    /// A port of the host that leads into the guest.
    pub forward: Option<Forward>,
}

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

/// A forwarded port: what connects to `listener` is connected to a port of the guest.
#[derive(Debug)]
pub struct Forward {
    /// Listens on an IPv4 address of the host, until the network is gone. That address
    /// decides who may connect; the guest sees its gateway in any case.
    pub listener: TcpListener,
    /// Port of the guest's address, [`GUEST`](super::GUEST).
    pub port: u16,
}

/// The offloads that the guest's driver has negotiated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Takes frames whose checksum is not complete.
    pub checksum: bool,
    /// Takes TCP segments larger than the link's frames: over IPv4.
    pub tcp4: bool,
    /// The same over IPv6.
    pub tcp6: bool,
}
