//! ICMP echo (RFC 792, RFC 4443): the gateway answers itself, others through the host's
//! unprivileged ping sockets (icmp(7), `net.ipv4.ping_group_range`).

use std::net::{IpAddr, SocketAddr};

use super::packet::{self, Frame};

/// Bytes of an echo message before its data.
pub(super) const HEADER: usize = 8;

/// Types of messages over IPv4 and IPv6.
const REQUEST_4: u8 = 8;
const REPLY_4: u8 = 0;
const REQUEST_6: u8 = 128;
const REPLY_6: u8 = 129;
/// "Destination unreachable" and its reason "port unreachable", over IPv4.
const UNREACHABLE_4: u8 = 3;
const PORT_4: u8 = 3;
/// The same over IPv6 (RFC 4443, section 3.1).
const UNREACHABLE_6: u8 = 1;
const PORT_6: u8 = 4;
/// "Time exceeded" and its reason "fragment reassembly", over IPv4 and IPv6 (RFC 4443, section 3.3).
const TIME_EXCEEDED_4: u8 = 11;
const TIME_EXCEEDED_6: u8 = 3;
const REASSEMBLY: u8 = 1;
/// Bytes of the refused packet that are sent back: its headers (RFC 792).
const QUOTED: usize = 48;

/// The identifier of an echo request, if `message` is one.
pub(super) fn echo_request(message: &[u8], ipv6: bool) -> Option<u16> {
    let kind = if ipv6 { REQUEST_6 } else { REQUEST_4 };
    match *message.get(..HEADER)? {
        [found, 0, _, _, high, low, _, _] if found == kind => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}

/// The reply that `message`, a request or the reply to another one of ours, becomes for the
/// guest's identifier.
pub(super) fn reply(from: SocketAddr, to: SocketAddr, message: &[u8], identifier: u16) -> Frame {
    let mut message = message.to_vec();
    if let Some(kind) = message.first_mut() {
        *kind = if from.is_ipv6() { REPLY_6 } else { REPLY_4 };
    }
    if let Some(field) = message.get_mut(4..6) {
        field.copy_from_slice(&identifier.to_be_bytes());
    }
    packet::icmp(from.ip(), to.ip(), &message)
}

/// Tells the guest that nothing takes its `packet` (from the IP header on).
pub(super) fn unreachable(from: SocketAddr, to: SocketAddr, packet: &[u8]) -> Frame {
    let (kind, code) = if from.is_ipv6() {
        (UNREACHABLE_6, PORT_6)
    } else {
        (UNREACHABLE_4, PORT_4)
    };
    about(from.ip(), to.ip(), [kind, code], packet)
}

/// Tells the guest that fragments of its `packet` (from the IP header on) have not come in time.
pub(super) fn reassembly_failed(from: IpAddr, to: IpAddr, packet: &[u8]) -> Frame {
    let kind = if from.is_ipv6() {
        TIME_EXCEEDED_6
    } else {
        TIME_EXCEEDED_4
    };
    about(from, to, [kind, REASSEMBLY], packet)
}

fn about(from: IpAddr, to: IpAddr, [kind, code]: [u8; 2], packet: &[u8]) -> Frame {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(packet.get(..QUOTED).unwrap_or(packet));
    packet::icmp(from, to, &message)
}
