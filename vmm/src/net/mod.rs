//! The guest's network: user-mode NAT in this process.
//!
//! No privilege, no interface of the host, no helper, and nothing listens unless it is asked for
//! ([`Forward`]). The guest's TCP connections end here and are continued by sockets of this process;
//! UDP and ICMP echo have a socket each while they are in use; ARP, DHCP, NDP and DNS are answered.
//!
//! The link between the guest and [`Nat`] loses nothing: what the guest has no room for waits.
//! All memory is bounded, whatever the guest sends: see [`limits`].

mod address_class;
mod addresses;
mod config;
mod datagram;
mod default_route;
mod dhcp;
mod dns;
mod egress;
mod error;
mod fragments;
mod handover;
mod host_network;
mod icmp;
mod kernel_buffers;
pub mod limits;
mod names;
mod nat;
mod neighbour;
mod packet;
mod policy;
mod port_forward;
mod reachability;
mod ring;
mod routes;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;
mod timer;

pub use addresses::{GATEWAY, GUEST, GUEST_MAC, NAME_SERVER};
pub use config::{Forward, Handover, NetworkConfig, Offloads};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use dns::fuzz as fuzz_dns;
pub use dns::{HostName, Resolver};
pub use error::NetworkError;
pub use host_network::{CurrentNetwork, HostNetwork};
pub use nat::{LARGEST_FRAME, Nat};
pub use packet::{Frame, Offload, Segmentation};
pub use policy::{Allowed, Host, NotADestination, Policy, Reach};
pub use stream::StreamNetwork;
