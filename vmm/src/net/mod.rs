//! The guest's network: user-mode NAT in this process.
//!
//! No privilege, no interface of the host, no helper, and nothing listens unless it is asked for
//! ([`Forward`]). The guest's TCP connections end here and are continued by sockets of this process;
//! UDP and ICMP echo have a socket each while they are in use; ARP, DHCP, NDP and DNS are answered.
//!
//! The link between the guest and [`Nat`] loses nothing: what the guest has no room for waits.
//! All memory is bounded, whatever the guest sends: see [`limits`].

mod addresses;
mod datagram;
mod dhcp;
mod icmp;
mod inbound;
mod nat;
mod neighbour;
mod packet;
mod resolver;
mod ring;
mod tcp;
#[cfg(test)]
mod tests;
mod ticker;

use std::net::TcpListener;

pub use addresses::{GATEWAY, GUEST, GUEST_MAC, NAME_SERVER};
pub use nat::LARGEST_FRAME;
pub use nat::Nat;
pub use packet::{Frame, Offload, Segmentation};

/// What one guest can make the host spend.
pub mod limits {
    /// TCP connections; more are refused. Fewer where the process may not open as many files.
    pub const CONNECTIONS: usize = 4096;
    /// TCP connections into the guest, among those; more wait in the host's backlog.
    pub const INBOUND: usize = 64;
    /// UDP and ICMP associations; one more takes the place of the one idle for longest.
    pub const ASSOCIATIONS: usize = 512;
    /// Bytes that wait for the guest, and bytes that wait for the host, per TCP connection.
    pub const BUFFER: usize = 512 << 10;
    /// Bytes that wait in either direction of all TCP connections together. Above it, no
    /// connection buffers more than a segment.
    pub const BUFFERS: usize = 64 << 20;
    /// Frames that wait for the guest apart from those of TCP; more are lost.
    pub const REPLIES: usize = 256;
    /// File descriptors that are left to the rest of the process.
    pub const OTHER_FILES: usize = 256;
}

/// How the guest is connected.
#[derive(Debug, Default)]
pub struct NetworkConfig {
    /// The guest reaches the host's loopback at the gateway's address. Without it, nothing that
    /// listens on the host's loopback alone can be reached.
    pub host_loopback: bool,
    /// A port of the host that leads into the guest.
    pub forward: Option<Forward>,
}

/// A way into the guest: what connects to `listener` is connected to a port of the guest.
#[derive(Debug)]
pub struct Forward {
    /// Listens on an IPv4 address of the host, until the network is gone. Who may connect is up to
    /// that address: the guest sees its gateway, whoever it is.
    pub listener: TcpListener,
    /// Port of the guest's address, [`GUEST`].
    pub port: u16,
}

/// What the guest's driver can do with frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Takes frames whose checksum is not complete.
    pub checksum: bool,
    /// Takes TCP segments larger than the link's frames: over IPv4.
    pub tcp4: bool,
    /// The same over IPv6.
    pub tcp6: bool,
}

/// The network cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the network: {action}")]
pub struct NetworkError {
    action: &'static str,
    #[source]
    source: std::io::Error,
}

impl NetworkError {
    fn new(action: &'static str) -> impl FnOnce(std::io::Error) -> NetworkError {
        move |source| NetworkError { action, source }
    }
}
