//! How the guest is connected, and what its driver can do.

use std::net::TcpListener;

use boxbuild_jail::Channel;

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
    /// Connections that another process continues.
    pub handover: Option<Handover>,
}

/// Connections of the guest that another process continues: once the host has connected, that process
/// gets the socket, and the end of a stream with the guest's bytes. Where it does not take one, the
/// connection is continued here, as all others are.
///
/// A message on `channel` is the connection's number (64 bits, little-endian) with the two descriptors:
/// the connected socket, the stream. Where nothing leaves the host ([`Policy::offline`]), there is no
/// socket, and a connection that is not taken is refused. The other process answers with the number of one whose end is to be
/// seen as a reset, before it closes its stream.
#[derive(Debug)]
pub struct Handover {
    /// To that process.
    pub channel: Channel,
    /// Which: ports of destinations as the guest knows them.
    pub ports: Vec<u16>,
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
