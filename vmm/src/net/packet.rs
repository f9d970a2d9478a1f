//! Frames for the guest, built byte by byte.

use std::net::{IpAddr, SocketAddr};

use super::addresses::{GUEST_MAC, OUR_MAC};

/// Bytes of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
/// Bytes of our IP headers: no options, no extensions.
const IPV4: usize = 20;
const IPV6: usize = 40;
/// Bytes of a UDP header.
const UDP: usize = 8;
/// Bytes of a TCP header without options.
pub(super) const TCP: usize = 20;

/// EtherTypes (IEEE 802 numbers).
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IP protocol numbers (IANA).
pub(super) const ICMP: u8 = 1;
pub(super) const PROTOCOL_TCP: u8 = 6;
pub(super) const PROTOCOL_UDP: u8 = 17;
pub(super) const ICMPV6: u8 = 58;
pub(super) const FRAGMENT: u8 = 44;

/// Time to live of packets to the guest.
const HOPS: u8 = 64;
/// NDP demands 255: not one router in between (RFC 4861, section 7.1).
const NEIGHBOUR_HOPS: u8 = 255;
/// "Don't fragment" (RFC 791, section 3.1).
const DONT_FRAGMENT: u16 = 0x4000;

/// An Ethernet frame for the guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// From the destination address on, without the frame check sequence.
    pub bytes: Vec<u8>,
    /// Offloads that are left to the receiver.
    pub offload: Option<Offload>,
}

/// Work that the guest's driver has agreed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// Offset in the frame from which the checksum counts.
    pub checksum_start: u16,
    /// Offset of the checksum from there; it holds that of the pseudo header.
    pub checksum_offset: u16,
    /// The frame is a large segment.
    pub segmentation: Option<Segmentation>,
}

/// A TCP segment that is larger than the link's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// Over IPv6.
    pub ipv6: bool,
    /// Bytes of all headers.
    pub headers: u16,
    /// Bytes of TCP payload that each of the frames would have.
    pub size: u16,
}

/// One's complement sum of 16-bit words, not inverted (RFC 1071).
fn sum(bytes: &[u8], start: u32) -> u32 {
    let mut sum = u64::from(start);
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        sum += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
    }
    let mut rest = [0; 4];
    for (byte, value) in rest.iter_mut().zip(words.remainder()) {
        *byte = *value;
    }
    sum += u64::from(u32::from_be_bytes(rest));
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u32
}

/// Internet checksum of `bytes`, with `start` added before.
pub(super) fn checksum(bytes: &[u8], start: u32) -> u16 {
    !(sum(bytes, start) as u16)
}

/// Sum over the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub(super) fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> u32 {
    let mut total = sum(&(len as u32).to_be_bytes(), u32::from(protocol));
    for ip in [from, to] {
        total = match ip {
            IpAddr::V4(ip) => sum(&ip.octets(), total),
            IpAddr::V6(ip) => sum(&ip.octets(), total),
        };
    }
    total
}

/// An Ethernet header of type `kind`, to the guest or, with `broadcast`, to all.
pub(super) fn ethernet(kind: u16, broadcast: bool, room: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET + room);
    frame.extend(if broadcast { [0xff; 6] } else { GUEST_MAC });
    frame.extend(OUR_MAC);
    frame.extend(kind.to_be_bytes());
    frame
}

/// Ethernet and IP headers for `len` bytes of `protocol`.
pub(super) fn headers(from: IpAddr, to: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut frame = ethernet(ETHERTYPE_IPV6, false, IPV6 + len);
            let hops = if protocol == ICMPV6 {
                NEIGHBOUR_HOPS
            } else {
                HOPS
            };
            frame.extend(0x6000_0000_u32.to_be_bytes());
            frame.extend((len as u16).to_be_bytes());
            frame.extend([protocol, hops]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            frame
        }
        (from, to) => {
            let broadcast = to == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
            let mut frame = ethernet(ETHERTYPE_IPV4, broadcast, IPV4 + len);
            let start = frame.len();
            // Version 4, five words; no service, the length; no identification.
            frame.extend([0x45, 0]);
            frame.extend(((IPV4 + len) as u16).to_be_bytes());
            frame.extend([0, 0]);
            frame.extend(DONT_FRAGMENT.to_be_bytes());
            frame.extend([HOPS, protocol, 0, 0]);
            for ip in [from, to] {
                if let IpAddr::V4(ip) = ip {
                    frame.extend(ip.octets());
                }
            }
            let sum = checksum(&frame[start..], 0).to_be_bytes();
            frame[start + 10..start + 12].copy_from_slice(&sum);
            frame
        }
    }
}

/// A frame with a UDP datagram. The caller sees to it that it fits.
pub(super) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Frame {
    let len = UDP + payload.len();
    let mut bytes = headers(from.ip(), to.ip(), PROTOCOL_UDP, len);
    let start = bytes.len();
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend((len as u16).to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(payload);
    let pseudo = pseudo_header(from.ip(), to.ip(), PROTOCOL_UDP, len);
    // Zero would say that there is none (RFC 768).
    let sum = match checksum(&bytes[start..], pseudo) {
        0 => 0xffff,
        sum => sum,
    };
    bytes[start + 6..start + 8].copy_from_slice(&sum.to_be_bytes());
    Frame {
        bytes,
        offload: None,
    }
}

/// A frame with an ICMP or ICMPv6 message, whose checksum (bytes 2 and 3) is filled in.
pub(super) fn icmp(from: IpAddr, to: IpAddr, message: &[u8]) -> Frame {
    let (protocol, pseudo) = match from {
        IpAddr::V4(_) => (ICMP, 0),
        IpAddr::V6(_) => (ICMPV6, pseudo_header(from, to, ICMPV6, message.len())),
    };
    let mut bytes = headers(from, to, protocol, message.len());
    let start = bytes.len();
    bytes.extend(message);
    if let Some(field) = bytes.get_mut(start + 2..start + 4) {
        field.fill(0);
    }
    let sum = checksum(&bytes[start..], pseudo).to_be_bytes();
    if let Some(field) = bytes.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&sum);
    }
    Frame {
        bytes,
        offload: None,
    }
}

/// Fields of a TCP segment for the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    /// A multiple of four bytes.
    pub(super) options: &'a [u8],
    /// The payload, in two pieces.
    pub(super) payload: (&'a [u8], &'a [u8]),
    /// Payload of one frame of the link.
    pub(super) size: u16,
    /// The guest completes checksums.
    pub(super) offload: bool,
}

/// A frame with a TCP segment.
pub(super) fn tcp(segment: &Segment<'_>) -> Frame {
    let (from, to) = (segment.from.ip(), segment.to.ip());
    let payload = segment.payload.0.len() + segment.payload.1.len();
    let header = TCP + segment.options.len();
    let len = header + payload;
    let mut bytes = headers(from, to, PROTOCOL_TCP, len);
    let start = bytes.len();
    bytes.extend(segment.from.port().to_be_bytes());
    bytes.extend(segment.to.port().to_be_bytes());
    bytes.extend(segment.sequence.to_be_bytes());
    bytes.extend(segment.acknowledgement.to_be_bytes());
    bytes.extend([(header as u8 / 4) << 4, segment.flags]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(segment.options);
    bytes.extend(segment.payload.0);
    bytes.extend(segment.payload.1);
    let pseudo = pseudo_header(from, to, PROTOCOL_TCP, len);
    let offset = TCP_CHECKSUM;
    let (sum, offload) = if segment.offload {
        let several = payload > usize::from(segment.size);
        let offload = Offload {
            checksum_start: start as u16,
            checksum_offset: offset as u16,
            segmentation: several.then_some(Segmentation {
                ipv6: from.is_ipv6(),
                headers: (start + header) as u16,
                size: segment.size,
            }),
        };
        (pseudo as u16, Some(offload))
    } else {
        (checksum(&bytes[start..], pseudo), None)
    };
    bytes[start + offset..start + offset + 2].copy_from_slice(&sum.to_be_bytes());
    Frame { bytes, offload }
}

/// Offset of the checksum in a TCP header.
const TCP_CHECKSUM: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071() {
        // Section 3: the sum of these bytes is ddf2.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes, 0), !0xddf2);
        assert_eq!(checksum(&bytes[..7], 0), !(0xddf2 - 0xf7));
    }

    #[test]
    fn a_datagram_is_one_for_another_implementation() {
        use smoltcp::wire::{EthernetFrame, Ipv4Packet, UdpPacket};
        let from = "10.0.2.3:53".parse().unwrap();
        let to = "10.0.2.15:1000".parse().unwrap();
        let frame = udp(from, to, b"abc");
        let frame = EthernetFrame::new_checked(&frame.bytes[..]).unwrap();
        let packet = Ipv4Packet::new_checked(frame.payload()).unwrap();
        assert!(packet.verify_checksum());
        let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
        let (source, target) = (packet.src_addr().into(), packet.dst_addr().into());
        assert!(datagram.verify_checksum(&source, &target));
        assert_eq!(datagram.payload(), b"abc");
    }
}
