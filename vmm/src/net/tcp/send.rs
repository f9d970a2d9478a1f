//! Segments to the guest.

use std::time::Instant;

use super::wire::{ACK, FIN, PSH, RESEND, SCALE, SYN, before, reset};
use super::{Connection, State};
use crate::net::config::Offloads;
use crate::net::limits;
use crate::net::packet::{self, Frame, Segment};

/// Options (RFC 9293, section 3.2; RFC 7323, section 2).
const OPTION_NOTHING: u8 = 1;
const OPTION_SEGMENT_SIZE: u8 = 2;
const OPTION_SCALE: u8 = 3;

/// Payload of a large segment: with all headers it stays an IP packet.
const LARGE_SEGMENT: usize = 60 << 10;
impl Connection {
    /// Whether [`segment`](Self::segment) has one.
    pub(in crate::net) fn has_segment(&self) -> bool {
        match self.state {
            State::Connecting => false,
            State::Answered | State::Calling => self.owes_acknowledgement,
            State::Open => {
                let owes = self.owes_acknowledgement || self.owes_probe;
                owes || self.sendable() > 0 || self.end_is_due()
            }
        }
    }

    /// Bytes on their way to the guest.
    fn in_flight(&self) -> usize {
        let sent = self.next.wrapping_sub(self.unacknowledged) as usize;
        sent - usize::from(self.end_sent && sent > 0)
    }

    fn sendable(&self) -> usize {
        if self.end_sent {
            return 0;
        }
        let flight = self.in_flight();
        let window = (self.window as usize).saturating_sub(flight);
        self.to_guest.len().saturating_sub(flight).min(window)
    }

    fn end_is_due(&self) -> bool {
        self.host_done && !self.end_sent && self.in_flight() == self.to_guest.len()
    }

    /// Builds the next segment for the guest. `room` is how much memory all connections together may
    /// still take for what waits.
    pub(in crate::net) fn segment(&mut self, offloads: Offloads, room: usize) -> Option<Frame> {
        if !self.has_segment() {
            return None;
        }
        if self.state != State::Open {
            return Some(self.greeting(offloads));
        }
        let large = offloads.checksum
            && if self.guest.is_ipv6() {
                offloads.tcp6
            } else {
                offloads.tcp4
            };
        let most = if large {
            LARGE_SEGMENT
        } else {
            usize::from(self.segment_size)
        };
        let flight = self.in_flight();
        let len = self.sendable().min(most);
        let sequence = self.next;
        self.next = sequence.wrapping_add(len as u32);
        let mut flags = ACK;
        if len > 0 && flight + len == self.to_guest.len() {
            flags |= PSH;
        }
        if self.end_is_due() {
            flags |= FIN;
            self.end_sent = true;
            self.next = self.next.wrapping_add(1);
        }
        if before(self.furthest, self.next) {
            self.furthest = self.next;
        }
        if sequence != self.next && self.resend_at.is_none() {
            self.resend_at = Some(Instant::now() + RESEND);
        }
        let window = self.tell_window(room);
        let payload = self.to_guest.range(flight, len);
        // What the guest has acknowledged, once more, it answers (RFC 9293, section 3.8.4).
        let probe = std::mem::take(&mut self.owes_probe) && sequence == self.next;
        Some(packet::tcp(&Segment {
            from: self.remote,
            to: self.guest,
            sequence: sequence.wrapping_sub(u32::from(probe)),
            acknowledgement: self.next_expected,
            flags,
            window,
            options: &[],
            payload,
            size: self.segment_size,
            offload: offloads.checksum,
        }))
    }

    /// Builds our SYN, in answer to the guest's or not.
    fn greeting(&mut self, offloads: Offloads) -> Frame {
        let answers = self.state == State::Answered;
        let [high, low] = self.most_segment().to_be_bytes();
        let mut options = vec![OPTION_SEGMENT_SIZE, 4, high, low];
        // An answer has it only if the guest's SYN had.
        if self.scale.is_some() || !answers {
            options.extend([OPTION_NOTHING, OPTION_SCALE, 3, SCALE]);
        }
        self.owes_acknowledgement = false;
        self.next = self.unacknowledged.wrapping_add(1);
        self.furthest = self.next;
        self.resend_at = self.resend_at.or_else(|| Some(Instant::now() + RESEND));
        // Not scaled in a SYN (RFC 7323, section 2.2).
        self.told_window = limits::BUFFER.min(usize::from(u16::MAX));
        packet::tcp(&Segment {
            from: self.remote,
            to: self.guest,
            sequence: self.unacknowledged,
            acknowledgement: if answers { self.next_expected } else { 0 },
            flags: if answers { SYN | ACK } else { SYN },
            window: u16::MAX,
            options: &options,
            payload: (&[], &[]),
            size: self.segment_size,
            offload: offloads.checksum,
        })
    }

    /// The window to advertise; it counts as advertised.
    fn tell_window(&mut self, room: usize) -> u16 {
        self.owes_acknowledgement = false;
        let shift = if self.scale.is_some() { SCALE } else { 0 };
        let window = u16::try_from(self.free(room) >> shift).unwrap_or(u16::MAX);
        self.told_window = usize::from(window) << shift;
        window
    }

    /// Builds a reset for the guest.
    pub(in crate::net) fn reset(&self, offloads: Offloads) -> Frame {
        reset(
            self.remote,
            self.guest,
            (self.next, Some(self.next_expected)),
            offloads,
        )
    }
}
