//! IP packets from the guest.

use std::net::IpAddr;
use std::time::Instant;

use smoltcp::wire::{IpProtocol, Ipv4Packet, Ipv6Packet, UdpPacket};

use super::{Nat, TIMER};
use crate::net::addresses::{GATEWAY, PREFIX_6, is_ours};
use crate::net::fragments::{Fragment, PacketId};
use crate::net::packet::{self, ETHERNET, FRAGMENT, ICMP, ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::net::{dhcp, icmp, neighbour};

/// Bytes of a fragment header (RFC 8200, section 4.5), and the flag of all but the last.
const FRAGMENT_HEADER: usize = 8;
const MORE: u16 = 1;

impl Nat {
    pub(super) fn ipv4(&mut self, bytes: &[u8]) {
        let Ok(packet) = Ipv4Packet::new_checked(bytes) else {
            return;
        };
        if packet.version() != 4 {
            return;
        }
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let payload = packet.payload();
        let whole = !packet.more_frags() && packet.frag_offset() == 0;
        if packet.next_header() == IpProtocol::Udp
            && whole
            && (to == GATEWAY || to.is_broadcast())
            && let Ok(datagram) = UdpPacket::new_checked(payload)
            && datagram.dst_port() == dhcp::SERVER_PORT
        {
            self.reply(dhcp::answer(datagram.payload()));
            return;
        }
        let local = from.octets()[..3] == GATEWAY.octets()[..3];
        if !local || is_ours(IpAddr::V4(from)) {
            return;
        }
        let (from, to) = (IpAddr::V4(from), IpAddr::V4(to));
        let protocol = packet.next_header().into();
        if whole {
            return self.transport(from, to, protocol, payload, bytes);
        }
        let id = u32::from(packet.ident());
        self.fragment(&Fragment {
            packet: PacketId {
                from,
                to,
                protocol,
                id,
            },
            offset: usize::from(packet.frag_offset()),
            more: packet.more_frags(),
            payload,
        });
    }

    pub(super) fn ipv6(&mut self, bytes: &[u8]) {
        let Ok(packet) = Ipv6Packet::new_checked(bytes) else {
            return;
        };
        if packet.version() != 6 {
            return;
        }
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let payload = packet.payload();
        let protocol = packet.next_header().into();
        // Only neighbours have not lost a hop (RFC 4861, section 6.1.1).
        if protocol == ICMPV6
            && packet.hop_limit() == u8::MAX
            && let Some(reply) = neighbour::ndp(from, payload, self.host.has_ipv6())
        {
            self.reply(Some(reply));
            return;
        }
        let local =
            from.segments()[..4] == PREFIX_6.segments()[..4] || from.is_unicast_link_local();
        if !local || is_ours(IpAddr::V6(from)) {
            return;
        }
        let (from, to) = (IpAddr::V6(from), IpAddr::V6(to));
        if protocol != FRAGMENT {
            return self.transport(from, to, protocol, payload, bytes);
        }
        let Some((header, payload)) = payload.split_first_chunk::<FRAGMENT_HEADER>() else {
            return;
        };
        let [protocol, _, high, low, id @ ..] = *header;
        let place = u16::from_be_bytes([high, low]);
        let id = u32::from_be_bytes(id);
        self.fragment(&Fragment {
            packet: PacketId {
                from,
                to,
                protocol,
                id,
            },
            // In units of eight bytes, above three bits: as bytes.
            offset: usize::from(place & !7),
            more: place & MORE != 0,
            payload,
        });
    }

    fn transport(&mut self, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8], packet: &[u8]) {
        match protocol {
            PROTOCOL_TCP => self.tcp(from, to, payload),
            PROTOCOL_UDP => self.udp(from, to, payload, packet),
            ICMP | ICMPV6 => self.echo(from, to, payload),
            _ => {}
        }
    }

    fn fragment(&mut self, fragment: &Fragment<'_>) {
        let whole = self.fragments.add(fragment, Instant::now());
        if let Some(payload) = whole {
            let PacketId {
                from, to, protocol, ..
            } = fragment.packet;
            let packet = with_header(&fragment.packet, &payload);
            self.transport(from, to, protocol, &payload, &packet);
        } else if !self.fragments.is_empty() {
            self.timer.start(&self.epoll, TIMER);
        }
    }

    /// Tells the guest of packets whose rest has not come.
    pub(super) fn expire_fragments(&mut self, now: Instant) {
        for (id, first) in self.fragments.expire(now) {
            let packet = with_header(&id, &first);
            self.reply(Some(icmp::reassembly_failed(id.to, id.from, &packet)));
        }
    }
}

/// A packet of the guest with as much of its payload as is needed to tell the guest of it.
fn with_header(id: &PacketId, payload: &[u8]) -> Vec<u8> {
    let mut frame = packet::headers(id.from, id.to, id.protocol, payload.len());
    frame.extend(payload.iter().take(FRAGMENT_HEADER));
    frame.split_off(ETHERNET)
}
