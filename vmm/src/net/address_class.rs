//! What kind of address the guest wants to reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// Kinds of addresses, from those that every guest may reach to those that none may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AddressClass {
    /// An address of the Internet.
    Public,
    /// An address of a private network, or one that is not for general use.
    Private,
    /// It leads back to the host or its links, to a cloud's metadata service, to a group, or nowhere.
    Closed,
}

/// Closed networks. The metadata services of clouds (which hand out the host's credentials) that are
/// not link-local have an entry each.
const CLOSED: &[&str] = &[
    "0.0.0.0/8",          // this host (RFC 1122, section 3.2.1.3)
    "127.0.0.0/8",        // loopback
    "169.254.0.0/16",     // link-local: AWS, Azure, Google, OpenStack and most others
    "224.0.0.0/4",        // groups
    "240.0.0.0/4",        // reserved, broadcast
    "10.0.2.0/24",        // the guest's own network
    "100.100.100.200/32", // Alibaba Cloud
    "168.63.129.16/32",   // Azure: the platform's agent
    "192.0.0.192/32",     // Oracle Cloud, first generation
    // All IPv4 addresses in disguise (RFC 4291, section 2.5.5; RFC 2765), ::, ::1, and the rest of what
    // the IETF keeps; 64:ff9b::/96 is looked at before.
    "::/8",
    "fe80::/10",              // link-local
    "ff00::/8",               // groups
    "fd6b:1f0e:93a2::/64",    // the guest's own network
    "fd00:ec2::/32",          // AWS
    "fd20:ce::/64",           // Google Cloud
    "fd00:c1::a9fe:a9fe/128", // Oracle Cloud
    "fd00:a9fe:a9fe::/64",    // Akamai (Linode)
    "fd00:42::42/128",        // Scaleway
];

/// Networks that are not part of the Internet (RFC 6890 and the IANA registries that it begins).
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    "100.64.0.0/10", // behind a provider's NAT (RFC 6598)
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "2001:2::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:db8::/32",
    "3fff::/20",
];

/// The only addresses that the Internet has over IPv6 (RFC 4291, section 2.4).
const GLOBAL_6: &str = "2000::/3";

/// The address that most clouds have their metadata service at.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The two lists, parsed.
#[derive(Debug)]
pub(super) struct AddressTable {
    closed: Vec<IpNet>,
    private: Vec<IpNet>,
    global_6: Option<Ipv6Net>,
}

impl AddressTable {
    pub(super) fn new() -> AddressTable {
        let parse = |list: &[&str]| list.iter().filter_map(|net| net.parse().ok()).collect();
        AddressTable {
            closed: parse(CLOSED),
            private: parse(PRIVATE),
            global_6: GLOBAL_6.parse().ok(),
        }
    }

    /// Returns what kind of address `ip` is. One that stands for an IPv4 address is of that one's kind.
    pub(super) fn class(&self, ip: IpAddr) -> AddressClass {
        let ip = match ip {
            IpAddr::V4(_) => return self.plain(ip),
            IpAddr::V6(ip) => ip,
        };
        // Whatever translates it leads out of the IPv6 world: its own class means nothing.
        if let Some(translated) = nat64(ip) {
            return self.plain(IpAddr::V4(translated));
        }
        embedded(ip)
            .map(|ip| self.plain(IpAddr::V4(ip)))
            .fold(self.plain(IpAddr::V6(ip)), Ord::max)
    }

    fn plain(&self, ip: IpAddr) -> AddressClass {
        let among = |list: &[IpNet]| list.iter().any(|net| net.contains(&ip));
        let local_6 = match ip {
            IpAddr::V4(_) => false,
            IpAddr::V6(ip) => self.global_6.is_none_or(|global| !global.contains(&ip)),
        };
        if among(&self.closed) {
            AddressClass::Closed
        } else if local_6 || among(&self.private) {
            AddressClass::Private
        } else {
            AddressClass::Public
        }
    }
}

/// The address that a translator with the well-known prefix sends a packet to (RFC 6052, section 2.1).
fn nat64(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    (ip.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0]).then(|| tail(ip))
}

/// The IPv4 addresses that tunnels and translators may take from an IPv6 address.
fn embedded(ip: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let segments = ip.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let [first, second, third, fourth, fifth, sixth, seventh, eighth] = segments;
    let teredo = first == 0x2001 && second == 0;
    let isatap = fifth & !0x0200 == 0 && sixth == 0x5efe;
    [
        // 6to4 (RFC 3056, section 2).
        (first == 0x2002).then(|| pair(second, third)),
        // Teredo: the server, and the client in disguise (RFC 4380, section 4).
        teredo.then(|| pair(third, fourth)),
        teredo.then(|| pair(!seventh, !eighth)),
        // ISATAP, behind any prefix (RFC 5214, section 6.1).
        isatap.then(|| pair(seventh, eighth)),
        // A translator's prefix may be any; no other address has this one at the end.
        (tail(ip) == METADATA).then_some(METADATA),
    ]
    .into_iter()
    .flatten()
}

fn tail(ip: Ipv6Addr) -> Ipv4Addr {
    Ipv4Addr::from_bits(ip.to_bits() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(ip: &str) -> AddressClass {
        AddressTable::new().class(ip.parse().unwrap())
    }

    #[test]
    fn every_entry_is_a_network() {
        for entry in CLOSED.iter().chain(PRIVATE).chain([&GLOBAL_6]) {
            let net: IpNet = entry.parse().unwrap();
            assert_eq!(net.trunc(), net, "{entry}");
        }
    }

    /// Fault 16.
    #[test]
    fn metadata_of_every_cloud_is_closed_in_every_form() {
        for ip in [
            "169.254.169.254",
            "169.254.170.2",
            "169.254.0.23",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fe80::a9fe:a9fe",
            "fe80::5efe:a9fe:a9fe",
            // NAT64, well-known and local.
            "64:ff9b::169.254.169.254",
            "64:ff9b::100.100.100.200",
            "64:ff9b::168.63.129.16",
            "64:ff9b::127.0.0.1",
            "64:ff9b::10.0.2.3",
            "64:ff9b:1::169.254.169.254",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2001:db8:64::a9fe:a9fe",
            // 6to4, Teredo (client in disguise, server), ISATAP.
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::1",
            "2002:6464:64c8::",
            "2001:0:102:304::5601:5601",
            "2001:0:a9fe:a9fe::fefe:fefe",
            "2001:0:102:304::80ff:fffe",
            "2001:4860::5efe:a9fe:a9fe",
            "2001:4860::200:5efe:7f00:1",
            // Mapped, compatible, translated.
            "::ffff:169.254.169.254",
            "::ffff:100.100.100.200",
            "::169.254.169.254",
            "::ffff:0:a9fe:a9fe",
            "::ffff:0:7f00:1",
        ] {
            assert_eq!(class(ip), AddressClass::Closed, "{ip}");
        }
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for ip in [
            "10.1.2.3",
            "10.0.3.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "100.127.255.255",
            "198.18.0.1",
            "203.0.113.5",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "2001:db8::1",
            "4000::1",
            "64:ff9b::10.1.2.3",
            "2002:c0a8:101::1",
            "2001:0:102:304::3f57:fefe",
            "2001:4860::5efe:192.168.1.1",
        ] {
            assert_eq!(class(ip), AddressClass::Private, "{ip}");
        }
        for ip in [
            "1.1.1.1",
            "172.32.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert_eq!(class(ip), AddressClass::Public, "{ip}");
        }
    }
}
