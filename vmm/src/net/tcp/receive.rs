//! Segments from the guest.

use std::io::{ErrorKind, Write};
use std::time::Instant;

use smoltcp::wire::{TcpControl, TcpRepr};

use super::wire::{RESEND, before};
use super::{Connection, ConnectionOutcome, State};

/// Duplicates after which something is sent again (RFC 5681, section 3.2).
const DUPLICATES: u8 = 3;
impl Connection {
    /// Handles a segment of the guest.
    pub(in crate::net) fn guest_segment(
        &mut self,
        segment: &TcpRepr<'_>,
        room: usize,
    ) -> ConnectionOutcome {
        let sequence = segment.seq_number.0 as u32;
        self.last_active = Instant::now();
        if self.state == State::Calling {
            return self.called(segment, room);
        }
        if segment.control == TcpControl::Rst {
            // Only one that fits exactly is believed (RFC 9293, section 3.10.7.4).
            return if sequence == self.next_expected {
                ConnectionOutcome::Dropped
            } else {
                ConnectionOutcome::Continues
            };
        }
        if self.state == State::Connecting {
            return ConnectionOutcome::Continues;
        }
        if segment.control == TcpControl::Syn {
            // Our answer is on its way.
            self.owes_acknowledgement = true;
            return ConnectionOutcome::Continues;
        }
        let Some(acknowledgement) = segment.ack_number else {
            return ConnectionOutcome::Continues;
        };
        if !self.acknowledge(acknowledgement.0 as u32, segment) {
            return ConnectionOutcome::Failed;
        }
        if self.state == State::Answered {
            return ConnectionOutcome::Continues;
        }
        let before = self.buffered();
        self.take(sequence, segment.payload, room);
        let room = room.saturating_sub(self.buffered() - before);
        let end = sequence.wrapping_add(segment.payload.len() as u32);
        if segment.control == TcpControl::Fin && end == self.next_expected && !self.guest_done {
            self.next_expected = end.wrapping_add(1);
            self.guest_done = true;
            self.owes_acknowledgement = true;
        }
        self.exchange(room)
    }

    /// Handles the guest's answer to our SYN (RFC 9293, section 3.10.7.3).
    fn called(&mut self, segment: &TcpRepr<'_>, room: usize) -> ConnectionOutcome {
        let ours = self.unacknowledged.wrapping_add(1);
        let acknowledged = segment.ack_number.map(|number| number.0 as u32);
        // What does not fit is old, or forged by a program in the guest; nothing has come of it.
        if self.next != ours || acknowledged != Some(ours) {
            return ConnectionOutcome::Continues;
        }
        match segment.control {
            // Nothing listens there.
            TcpControl::Rst => return ConnectionOutcome::Dropped,
            TcpControl::Syn => {}
            _ => return ConnectionOutcome::Continues,
        }
        self.take_options(segment);
        self.state = State::Open;
        self.unacknowledged = ours;
        self.resend_at = None;
        self.resends = 0;
        self.owes_acknowledgement = true;
        self.exchange(room)
    }

    /// Handles an acknowledgement. False if it is of what was never sent.
    fn acknowledge(&mut self, acknowledgement: u32, segment: &TcpRepr<'_>) -> bool {
        if before(self.furthest, acknowledgement) {
            return false;
        }
        if before(acknowledgement, self.unacknowledged) {
            return true;
        }
        if self.state == State::Answered && acknowledgement != self.unacknowledged {
            // Our SYN.
            self.state = State::Open;
            self.unacknowledged = self.unacknowledged.wrapping_add(1);
            if before(self.next, self.unacknowledged) {
                self.next = self.unacknowledged;
            }
            self.resend_at = None;
        }
        let window = u32::from(segment.window_len) << self.scale.unwrap_or(0);
        let advanced = acknowledgement.wrapping_sub(self.unacknowledged);
        if advanced > 0 {
            let data = self.to_guest.len().min(advanced as usize);
            self.to_guest.consume(data);
            self.unacknowledged = acknowledgement;
            if before(self.next, acknowledgement) {
                self.next = acknowledgement;
                self.end_sent |= advanced as usize > data;
            }
            self.duplicates = 0;
            self.resends = 0;
            self.resend_at = (self.unacknowledged != self.next).then(|| Instant::now() + RESEND);
        } else if segment.payload.is_empty()
            && segment.control == TcpControl::None
            && window == self.window
            && self.unacknowledged != self.next
        {
            self.duplicates = self.duplicates.saturating_add(1);
            if self.duplicates == DUPLICATES {
                self.send_again();
            }
        }
        self.window = window;
        true
    }

    /// Takes payload of the guest as far as it is new and there is room, whatever window the guest was
    /// told.
    fn take(&mut self, sequence: u32, payload: &[u8], room: usize) {
        if payload.is_empty() {
            // Something outside of the window asks for an answer, such as a keep-alive.
            self.owes_acknowledgement |= sequence != self.next_expected;
            return;
        }
        self.owes_acknowledgement = true;
        if before(self.next_expected, sequence) || self.guest_done {
            return;
        }
        let known = self.next_expected.wrapping_sub(sequence) as usize;
        let mut fresh = payload.get(known..).unwrap_or_default();
        let offered = fresh.len();
        // Past the buffer, if nothing is in it.
        while self.writable && self.to_host.is_empty() && !fresh.is_empty() {
            match (&self.socket).write(fresh) {
                Ok(count) => fresh = fresh.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The next flush meets it again.
                Err(_) => break,
            }
        }
        let written = offered - fresh.len();
        let room = self.to_host.most_with(room) - self.to_host.len();
        let kept = fresh.get(..fresh.len().min(room)).unwrap_or_default();
        self.to_host.extend(kept);
        let taken = (written + kept.len()) as u32;
        self.next_expected = self.next_expected.wrapping_add(taken);
    }
}
