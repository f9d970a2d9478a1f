//! Addresses of the guest's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The network is 10.0.2.0/24, as people know it from QEMU's user network.
pub(super) const PREFIX: u8 = 24;
/// Address of the guest.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Address of the gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Address of the name server.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// What every name has for an address where nothing leaves the host: an address that no server has
/// (RFC 5737).
pub(super) const ABSENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

/// A unique local prefix (RFC 4193, with a random global id) of 64 bits.
pub(super) const PREFIX_6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0x1f0e, 0x93a2, 0, 0, 0, 0, 0);
/// Our link-local address: routers need one (RFC 4861, section 4.2).
pub(super) const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// The gateway and the name server over IPv6.
pub(super) const GATEWAY_6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0x1f0e, 0x93a2, 0, 0, 0, 0, 2);
/// See [`GATEWAY_6`].
pub(super) const NAME_SERVER_6: Ipv6Addr = Ipv6Addr::new(0xfd6b, 0x1f0e, 0x93a2, 0, 0, 0, 0, 3);

/// Locally administered address of the guest's card.
pub const GUEST_MAC: [u8; 6] = [0x02, 0x62, 0x6f, 0x78, 0x00, 0x0f];
/// Locally administered address of the gateway's card.
pub(super) const OUR_MAC: [u8; 6] = [0x02, 0x62, 0x6f, 0x78, 0x00, 0x02];

/// Where DNS is served.
pub(super) const DNS_PORT: u16 = 53;

/// Whether the gateway answers for `ip`.
pub(super) fn is_gateway(ip: IpAddr) -> bool {
    ip == GATEWAY || ip == GATEWAY_6 || ip == LINK_LOCAL
}

/// Whether the name server answers for `ip`.
pub(super) fn is_name_server(ip: IpAddr) -> bool {
    ip == NAME_SERVER || ip == NAME_SERVER_6
}

/// Whether an address in the guest's network is the gateway's or the name server's.
pub(super) fn is_ours(ip: IpAddr) -> bool {
    is_gateway(ip) || is_name_server(ip)
}
