//! Neighbours and routers over IPv6.

use super::super::addresses::{LINK_LOCAL, NAME_SERVER_6};
use super::*;

#[test]
fn routers_and_neighbours_over_ipv6() {
    let mut guest = Guest::new(NetworkConfig::default(), false);
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    let send = |to: Ipv6Addr, hops, payload: Vec<u8>| {
        let ends = (IpAddr::V6(own), IpAddr::V6(to));
        from_guest(with_headers(ends, ICMPV6, hops, &payload))
    };
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let answer = guest
        .answer(&send(routers, 255, vec![133, 0, 0, 0, 0, 0, 0, 0]))
        .unwrap();
    let packet = Packet::parse(&answer);
    assert_eq!(packet.payload[0], 134);
    assert!(packet.is_whole(ICMPV6));
    let contains = |what: &[u8]| packet.payload.windows(16).any(|part| part == what);
    assert!(contains(&PREFIX_6.octets()) && contains(&NAME_SERVER_6.octets()));
    // Not from this link.
    assert!(
        guest
            .answer(&send(routers, 64, vec![133, 0, 0, 0, 0, 0, 0, 0]))
            .is_none()
    );
    for (target, answered) in [(LINK_LOCAL, true), (NAME_SERVER_6, true), (own, false)] {
        let mut payload = vec![135, 0, 0, 0, 0, 0, 0, 0];
        payload.extend(target.octets());
        assert_eq!(
            guest.answer(&send(target, 255, payload)).is_some(),
            answered
        );
    }
}

/// A host that comes to another network while its guest runs.
#[test]
fn a_router_is_advertised_as_soon_as_the_host_has_one() {
    let config = NetworkConfig::default();
    let host = config.host.clone();
    let mut guest = Guest::new(config, false);
    let own = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);
    let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let ends = (IpAddr::V6(own), IpAddr::V6(routers));
    let solicitation = vec![133, 0, 0, 0, 0, 0, 0, 0];
    let question = from_guest(with_headers(ends, ICMPV6, 255, &solicitation));
    for ipv6 in [false, true, false] {
        host.set(HostNetwork {
            ipv6,
            ..HostNetwork::default()
        });
        assert_eq!(guest.answer(&question).is_some(), ipv6);
    }
}
