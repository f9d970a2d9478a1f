//! Address resolution: ARP (RFC 826) and NDP (RFC 4861), with router advertisements
//! (section 4.2) and name servers in them (RFC 8106).

use std::net::{IpAddr, Ipv6Addr};

use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};

use super::addresses::{GUEST_MAC, LINK_LOCAL, NAME_SERVER_6, OUR_MAC, PREFIX_6, is_ours};
use super::packet::{self, ETHERTYPE_ARP, Frame};

/// Message types (RFC 4861, sections 4.1 to 4.4).
const ROUTER_SOLICITATION: u8 = 133;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Options (RFC 4861, section 4.6; RFC 8106, section 5.1).
const SOURCE_ADDRESS: u8 = 1;
const TARGET_ADDRESS: u8 = 2;
const PREFIX_INFORMATION: u8 = 3;
const NAME_SERVERS: u8 = 25;
/// Flags of a neighbour advertisement: router, solicited, override.
const ADVERTISEMENT_FLAGS: u8 = 0xe0;
/// Flags of a prefix: on link, autonomous configuration.
const PREFIX_FLAGS: u8 = 0xc0;
/// Lifetime of a router in seconds: the most (RFC 4861, section 6.2.1).
const ROUTER_LIFETIME: u16 = 9000;
/// Infinite lifetime (RFC 4861, section 4.6.2).
const INFINITE: u32 = u32::MAX;

/// The answer to an ARP packet.
pub(super) fn arp(packet: &[u8]) -> Option<Frame> {
    let packet = ArpPacket::new_checked(packet).ok()?;
    let ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr,
        source_protocol_addr,
        target_protocol_addr,
        ..
    } = ArpRepr::parse(&packet).ok()?
    else {
        return None;
    };
    // A guest that asks for its own address wants to hear nothing (RFC 5227).
    if !is_ours(IpAddr::V4(target_protocol_addr)) {
        return None;
    }
    let reply = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Reply,
        source_hardware_addr: EthernetAddress(OUR_MAC),
        source_protocol_addr: target_protocol_addr,
        target_hardware_addr: source_hardware_addr,
        target_protocol_addr: source_protocol_addr,
    };
    let mut bytes = packet::ethernet(ETHERTYPE_ARP, false, reply.buffer_len());
    let start = bytes.len();
    bytes.resize(start + reply.buffer_len(), 0);
    reply.emit(&mut ArpPacket::new_unchecked(&mut bytes[start..]));
    Some(Frame {
        bytes,
        offload: None,
    })
}

/// The answer to an NDP message from `from`. `router` says whether the host has a way into the
/// IPv6 world; a guest without a router has only IPv4.
pub(super) fn ndp(from: Ipv6Addr, message: &[u8], router: bool) -> Option<Frame> {
    match *message.first()? {
        ROUTER_SOLICITATION if router => Some(advertise_router(from)),
        NEIGHBOUR_SOLICITATION => {
            let target: [u8; 16] = message.get(8..24)?.try_into().ok()?;
            let target = Ipv6Addr::from(target);
            // A guest that looks whether an address is taken has none yet (RFC 4862, 5.4).
            if !is_ours(IpAddr::V6(target)) || from.is_unspecified() {
                return None;
            }
            let mut reply = vec![
                NEIGHBOUR_ADVERTISEMENT,
                0,
                0,
                0,
                ADVERTISEMENT_FLAGS,
                0,
                0,
                0,
            ];
            reply.extend(target.octets());
            reply.extend(hardware_address(TARGET_ADDRESS));
            Some(packet::icmp(IpAddr::V6(target), IpAddr::V6(from), &reply))
        }
        _ => None,
    }
}

fn hardware_address(kind: u8) -> [u8; 8] {
    let [a, b, c, d, e, f] = OUR_MAC;
    [kind, 1, a, b, c, d, e, f]
}

fn advertise_router(to: Ipv6Addr) -> Frame {
    // Hop limit unspecified, no DHCPv6.
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 0, 0];
    message.extend(ROUTER_LIFETIME.to_be_bytes());
    // Times unspecified.
    message.extend([0; 8]);
    message.extend([PREFIX_INFORMATION, 4, 64, PREFIX_FLAGS]);
    message.extend(INFINITE.to_be_bytes());
    message.extend(INFINITE.to_be_bytes());
    message.extend([0; 4]);
    message.extend(PREFIX_6.octets());
    message.extend([NAME_SERVERS, 3, 0, 0]);
    message.extend(INFINITE.to_be_bytes());
    message.extend(NAME_SERVER_6.octets());
    message.extend(hardware_address(SOURCE_ADDRESS));
    let to = if to.is_unspecified() {
        // All nodes; the frame is the guest's all the same.
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)
    } else {
        to
    };
    packet::icmp(IpAddr::V6(LINK_LOCAL), IpAddr::V6(to), &message)
}

// The guest's address is not asked for anywhere: there is one guest.
const _: () = assert!(GUEST_MAC[0] & 3 == 2 && OUR_MAC[0] & 3 == 2);

#[cfg(test)]
mod tests {
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{
        EthernetFrame, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, NdiscRepr, NdiscRouterFlags,
    };

    use super::*;

    fn parse(frame: &Frame, check: impl FnOnce(NdiscRepr<'_>)) {
        let frame = EthernetFrame::new_checked(&frame.bytes[..]).unwrap();
        let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
        assert_eq!(packet.hop_limit(), 255);
        let message = Icmpv6Packet::new_checked(packet.payload()).unwrap();
        let caps = ChecksumCapabilities::default();
        let parsed =
            Icmpv6Repr::parse(&packet.src_addr(), &packet.dst_addr(), &message, &caps).unwrap();
        let Icmpv6Repr::Ndisc(message) = parsed else {
            panic!("{parsed:?}");
        };
        check(message);
    }

    #[test]
    fn the_router_is_advertised_where_there_is_one() {
        let from = "fe80::1234".parse().unwrap();
        assert_eq!(
            ndp(from, &[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], false),
            None
        );
        let frame = ndp(from, &[ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0], true).unwrap();
        parse(&frame, |message| {
            let NdiscRepr::RouterAdvert {
                flags, prefix_info, ..
            } = message
            else {
                panic!("{message:?}");
            };
            assert_eq!(flags, NdiscRouterFlags::empty());
            assert_eq!(prefix_info.unwrap().prefix, PREFIX_6);
        });
    }

    #[test]
    fn neighbours_are_found_and_free_addresses_left_alone() {
        let from: Ipv6Addr = "fe80::1234".parse().unwrap();
        let ask = |target: Ipv6Addr| {
            let mut message = vec![NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            message.extend(target.octets());
            message
        };
        let frame = ndp(from, &ask(NAME_SERVER_6), false).unwrap();
        parse(&frame, |message| {
            assert!(
                matches!(message, NdiscRepr::NeighborAdvert { target_addr, .. }
                if target_addr == NAME_SERVER_6)
            );
        });
        assert_eq!(ndp(from, &ask(from), false), None);
        assert_eq!(ndp(Ipv6Addr::UNSPECIFIED, &ask(NAME_SERVER_6), false), None);
        assert_eq!(ndp(from, &[NEIGHBOUR_SOLICITATION; 20], false), None);
    }
}
