//! Addresses of the guest's network, and which addresses outside of it can be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::config::NetworkConfig;

/// The network is 10.0.2.0/24, as people know it from QEMU's user network.
pub(super) const PREFIX: u8 = 24;
/// Address of the guest.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Address of the gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Address of the name server.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

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

/// Where a packet of the guest goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Destination {
    /// The name server of this network.
    NameServer,
    /// The host reaches it under this address.
    Host(SocketAddr),
    /// It leads back to this host, to its neighbours, or nowhere.
    Unreachable,
}

/// Decides on a packet for `to`.
pub(super) fn destination(to: SocketAddr, config: &NetworkConfig) -> Destination {
    let ip = to.ip();
    if is_name_server(ip) {
        return if to.port() == DNS_PORT {
            Destination::NameServer
        } else {
            Destination::Unreachable
        };
    }
    if is_gateway(ip) {
        if !config.host_loopback {
            return Destination::Unreachable;
        }
        let loopback = match ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        return Destination::Host(SocketAddr::new(loopback, to.port()));
    }
    let outside = match ip {
        IpAddr::V4(ip) => is_outside_4(ip),
        IpAddr::V6(ip) => is_outside_6(ip),
    };
    if outside && to.port() != 0 {
        Destination::Host(to)
    } else {
        Destination::Unreachable
    }
}

/// Whether the gateway answers for `ip`.
pub(super) fn is_gateway(ip: IpAddr) -> bool {
    ip == GATEWAY || ip == GATEWAY_6 || ip == LINK_LOCAL
}

fn is_name_server(ip: IpAddr) -> bool {
    ip == NAME_SERVER || ip == NAME_SERVER_6
}

/// Whether an address in the guest's network is the gateway's or the name server's.
pub(super) fn is_ours(ip: IpAddr) -> bool {
    is_gateway(ip) || is_name_server(ip)
}

/// Not this host (RFC 1122, section 3.2.1.3), not its links, no groups, not the guest's network.
fn is_outside_4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let guests = [a, b, c] == [10, 0, 2];
    !(a == 0 || ip.is_loopback() || ip.is_link_local() || a >= 224 || guests)
}

fn is_outside_6(ip: Ipv6Addr) -> bool {
    let guests = ip.segments()[..4] == PREFIX_6.segments()[..4];
    // Forms of IPv4 addresses (RFC 4291, section 2.5.5) would lead around the rules above.
    let embedded = ip.segments()[..5] == [0; 5];
    !(embedded || ip.is_unicast_link_local() || ip.is_multicast() || guests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(to: &str, host_loopback: bool) -> Destination {
        let config = NetworkConfig {
            host_loopback,
            forward: None,
            ..NetworkConfig::default()
        };
        destination(to.parse().unwrap(), &config)
    }

    #[test]
    fn nothing_leads_back_to_the_host() {
        for to in [
            "127.0.0.1:80",
            "127.1.2.3:80",
            "0.0.0.0:80",
            "0.1.2.3:80",
            "169.254.169.254:80",
            "224.0.0.1:80",
            "255.255.255.255:80",
            "10.0.2.2:80",
            "10.0.2.3:80",
            "10.0.2.99:80",
            "1.2.3.4:0",
            "[::]:80",
            "[::1]:80",
            "[::ffff:127.0.0.1]:80",
            "[::127.0.0.1]:80",
            "[fe80::1]:80",
            "[fe80::2]:80",
            "[ff02::1]:80",
            "[fd6b:1f0e:93a2::2]:80",
            "[fd6b:1f0e:93a2::99]:80",
        ] {
            assert_eq!(decide(to, false), Destination::Unreachable, "{to}");
        }
    }

    #[test]
    fn the_world_is_reached() {
        for to in [
            "1.2.3.4:80",
            "10.0.3.2:1",
            "192.168.0.1:22",
            "[2001:db8::1]:80",
        ] {
            assert_eq!(decide(to, false), Destination::Host(to.parse().unwrap()));
        }
        for to in ["10.0.2.3:53", "[fd6b:1f0e:93a2::3]:53"] {
            assert_eq!(decide(to, false), Destination::NameServer);
        }
    }

    #[test]
    fn the_hosts_loopback_is_reached_if_asked_for() {
        for (to, host) in [
            ("10.0.2.2:3128", "127.0.0.1:3128"),
            ("[fd6b:1f0e:93a2::2]:3128", "[::1]:3128"),
        ] {
            assert_eq!(decide(to, true), Destination::Host(host.parse().unwrap()));
        }
    }
}
