//! Numbers of the protocol, and segments that belong to no connection.

use std::net::SocketAddr;
use std::time::Duration;

use crate::net::config::Offloads;
use crate::net::limits;
use crate::net::packet::{self, Frame, Segment};

/// Flags (RFC 9293, section 3.1).
pub(in crate::net) const FIN: u8 = 1 << 0;
pub(in crate::net) const SYN: u8 = 1 << 1;
pub(in crate::net) const RST: u8 = 1 << 2;
pub(in crate::net) const PSH: u8 = 1 << 3;
pub(in crate::net) const ACK: u8 = 1 << 4;

/// Bytes of payload in a frame of 1500 bytes, over IPv4 and IPv6.
pub(super) const SEGMENT_4: u16 = 1460;
pub(super) const SEGMENT_6: u16 = 1440;
/// Our windows are in units of 2^7 bytes, so that [`limits::BUFFER`] fits 16 bits.
pub(super) const SCALE: u8 = 7;
/// Time without an answer after which something is sent again; doubles each time.
pub(super) const RESEND: Duration = Duration::from_millis(500);
/// Times that something is sent again before the guest counts as gone.
pub(super) const RESENDS: u32 = 8;

const _: () = assert!(limits::BUFFER >> SCALE <= u16::MAX as usize);

/// Whether sequence number `a` comes before `b` (RFC 9293, section 3.4).
pub(super) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Builds a reset with a sequence number and, perhaps, an acknowledgement.
pub(in crate::net) fn reset(
    from: SocketAddr,
    to: SocketAddr,
    (sequence, acknowledgement): (u32, Option<u32>),
    offloads: Offloads,
) -> Frame {
    let flags = if acknowledgement.is_some() {
        RST | ACK
    } else {
        RST
    };
    packet::tcp(&Segment {
        from,
        to,
        sequence,
        acknowledgement: acknowledgement.unwrap_or(0),
        flags,
        window: 0,
        options: &[],
        payload: (&[], &[]),
        size: SEGMENT_4,
        offload: offloads.checksum,
    })
}
