//! How the guest is connected, and what its driver can do.

use std::net::TcpListener;

use super::host_network::CurrentNetwork;
use super::policy::Policy;

/// The configuration of a guest's network: values, and one descriptor. Nothing else of the host is
/// looked at while it runs.
#[derive(Debug, Default)]
pub struct NetworkConfig {
    /// What the guest may reach.
    pub policy: Policy,
    /// What the host's own network has.
    pub host: CurrentNetwork,
    /// A port of the host that leads into the guest.
    pub forward: Option<Forward>,
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
