//! One TCP connection of the guest (RFC 9293), continued by a socket of the host. Either side may
//! have begun it.
//!
//! The link to the guest loses nothing and keeps order, so there is no congestion to control
//! and nothing to reassemble; what the guest drops by itself is sent again, in order. A
//! connection buffers at most [`limits::BUFFER`] bytes each way, and only what it must.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use smoltcp::wire::{TcpControl, TcpRepr};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::config::Offloads;
use super::limits;
use super::packet::{self, Frame, Segment};
use super::ring::Ring;

/// Flags (RFC 9293, section 3.1).
pub(super) const FIN: u8 = 1 << 0;
pub(super) const SYN: u8 = 1 << 1;
pub(super) const RST: u8 = 1 << 2;
pub(super) const PSH: u8 = 1 << 3;
pub(super) const ACK: u8 = 1 << 4;

/// Options (RFC 9293, section 3.2; RFC 7323, section 2).
const OPTION_NOTHING: u8 = 1;
const OPTION_SEGMENT_SIZE: u8 = 2;
const OPTION_SCALE: u8 = 3;

/// Bytes of payload in a frame of 1500 bytes, over IPv4 and IPv6.
const SEGMENT_4: u16 = 1460;
const SEGMENT_6: u16 = 1440;
/// What a peer takes that does not say (RFC 9293, section 3.7.1), and the least that is believed.
const DEFAULT_SEGMENT: u16 = 536;
const LEAST_SEGMENT: u16 = 64;
/// Payload of a large segment: with all headers it stays an IP packet.
const LARGE_SEGMENT: usize = 60 << 10;
/// Our windows are in units of 2^4 bytes, so that [`limits::BUFFER`] fits 16 bits.
const SCALE: u8 = 4;
/// Largest shift that a peer may ask for (RFC 7323, section 2.3).
const MOST_SCALE: u8 = 14;
/// Duplicates after which something is sent again (RFC 5681, section 3.2).
const DUPLICATES: u8 = 3;
/// Time without an answer after which something is sent again; doubles each time.
const RESEND: Duration = Duration::from_millis(500);
/// So often, and then the guest is gone.
const RESENDS: u32 = 8;

const _: () = assert!(limits::BUFFER >> SCALE <= u16::MAX as usize);

/// How far the connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The host's socket is being connected; the guest waits for its answer.
    Connecting,
    /// The guest has been answered, and has not said anything yet.
    Answered,
    /// The host has begun; the guest is called, and has not answered yet.
    Calling,
    Open,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum Fate {
    /// It goes on.
    Stays,
    /// Both sides are done.
    Done,
    /// It is broken: the guest gets a reset.
    Reset,
    /// The guest has reset it.
    Gone,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    guest: SocketAddr,
    remote: SocketAddr,
    state: State,
    /// The host has begun it.
    inbound: bool,
    /// The socket may have something to read or room to write: edge-triggered.
    readable: bool,
    writable: bool,
    /// The end is among what there is to read.
    ending: bool,
    /// From the guest: next sequence number, what the host has not taken yet, and the end.
    next_expected: u32,
    to_host: Ring,
    guest_done: bool,
    host_told: bool,
    /// To the guest: first byte that it has not acknowledged, next to be sent, and everything
    /// from the first on.
    unacknowledged: u32,
    next: u32,
    /// The furthest that was ever sent.
    furthest: u32,
    to_guest: Ring,
    host_done: bool,
    end_sent: bool,
    window: u32,
    scale: Option<u8>,
    segment_size: u16,
    duplicates: u8,
    resend_at: Option<Instant>,
    resends: u32,
    owes_acknowledgement: bool,
    /// The last window that the guest was told of.
    told_window: usize,
    /// It is in the queue of those with something to send.
    pub(super) queued: bool,
}

fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Connection {
    /// Begins to connect to `host`, which the guest knows as `remote`, for its first segment.
    ///
    /// # Errors
    /// If that fails at once.
    pub(super) fn connect(
        guest: SocketAddr,
        remote: SocketAddr,
        host: SocketAddr,
        syn: &TcpRepr<'_>,
        first: u32,
    ) -> io::Result<Connection> {
        let kind = Type::STREAM.nonblocking();
        let socket = Socket::new(Domain::for_address(host), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&host.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut connection = Connection::new(socket, guest, remote, State::Connecting, first);
        connection.take_options(syn);
        Ok(connection)
    }

    /// Begins to call the guest for `socket`, which it shall know as `remote`.
    pub(super) fn call(
        guest: SocketAddr,
        remote: SocketAddr,
        socket: Socket,
        first: u32,
    ) -> Connection {
        let mut connection = Connection::new(socket, guest, remote, State::Calling, first);
        connection.owes_acknowledgement = true;
        connection
    }

    fn new(
        socket: Socket,
        guest: SocketAddr,
        remote: SocketAddr,
        state: State,
        first: u32,
    ) -> Connection {
        Connection {
            socket,
            guest,
            remote,
            state,
            inbound: state == State::Calling,
            readable: false,
            writable: false,
            ending: false,
            next_expected: 0,
            to_host: Ring::default(),
            guest_done: false,
            host_told: false,
            unacknowledged: first,
            next: first,
            furthest: first,
            to_guest: Ring::default(),
            host_done: false,
            end_sent: false,
            window: 0,
            scale: None,
            segment_size: DEFAULT_SEGMENT,
            duplicates: 0,
            resend_at: None,
            resends: 0,
            owes_acknowledgement: false,
            told_window: 0,
            queued: false,
        }
    }

    /// Takes what the guest's first segment says of itself.
    fn take_options(&mut self, syn: &TcpRepr<'_>) {
        let asked = syn.max_seg_size.unwrap_or(DEFAULT_SEGMENT);
        self.segment_size = asked.clamp(LEAST_SEGMENT, self.most_segment());
        self.next_expected = (syn.seq_number.0 as u32).wrapping_add(1);
        // Not scaled in a SYN (RFC 7323, section 2.2).
        self.window = u32::from(syn.window_len);
        self.scale = syn.window_scale.map(|scale| scale.min(MOST_SCALE));
    }

    /// Bytes of payload in a frame of the link.
    fn most_segment(&self) -> u16 {
        if self.guest.is_ipv6() {
            SEGMENT_6
        } else {
            SEGMENT_4
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether the host has begun it, not the guest.
    pub(super) fn is_inbound(&self) -> bool {
        self.inbound
    }

    /// Memory that is kept for what waits for either side, in bytes.
    pub(super) fn buffered(&self) -> usize {
        self.to_host.capacity() + self.to_guest.capacity()
    }

    /// The host's socket has news. `room` is how many bytes all connections may still buffer.
    pub(super) fn host_event(&mut self, news: EpollFlags, room: usize) -> Fate {
        let failed = news.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        self.ending |= failed || news.contains(EpollFlags::EPOLLRDHUP);
        self.readable |= self.ending || news.contains(EpollFlags::EPOLLIN);
        self.writable |= failed || news.contains(EpollFlags::EPOLLOUT);
        if self.state == State::Connecting {
            if failed {
                return Fate::Reset;
            }
            // There is no room to write before there is a peer.
            if !self.writable {
                return Fate::Stays;
            }
            self.state = State::Answered;
            self.owes_acknowledgement = true;
        }
        if self.state == State::Calling && failed {
            // Who called is gone. The guest may know nothing of it yet.
            return if self.next == self.unacknowledged {
                Fate::Gone
            } else {
                Fate::Reset
            };
        }
        self.exchange(room)
    }

    /// Moves what can be moved between the buffers and the host's socket.
    pub(super) fn exchange(&mut self, room: usize) -> Fate {
        if matches!(self.state, State::Connecting | State::Calling) {
            return Fate::Stays;
        }
        if self.flush().is_err() || self.fill(room).is_err() {
            return Fate::Reset;
        }
        self.fate()
    }

    fn fate(&self) -> Fate {
        let sent = self.end_sent && self.unacknowledged == self.next;
        if sent && self.host_told {
            Fate::Done
        } else {
            Fate::Stays
        }
    }

    /// Writes to the host what is left for it.
    fn flush(&mut self) -> io::Result<()> {
        while self.writable && !self.to_host.is_empty() {
            match (&self.socket).write_vectored(&self.to_host.parts()) {
                Ok(count) => self.to_host.consume(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.to_host.is_empty() && self.guest_done && !self.host_told {
            self.host_told = true;
            match self.socket.shutdown(Shutdown::Write) {
                Err(error) if error.kind() != ErrorKind::NotConnected => return Err(error),
                _ => {}
            }
        }
        // The guest waits for room if it was told of little.
        if self.state == State::Open && self.told_window < limits::BUFFER / 4 {
            self.owes_acknowledgement |= self.free() >= limits::BUFFER / 2;
        }
        Ok(())
    }

    /// Reads from the host what the guest may get.
    fn fill(&mut self, room: usize) -> io::Result<()> {
        // Some of it always, so that none starves where all together buffer too much.
        let most = limits::BUFFER.min(self.to_guest.len() + room.max(usize::from(SEGMENT_4)));
        let mut socket = &self.socket;
        while self.readable && !self.host_done && self.to_guest.len() < most {
            match self
                .to_guest
                .read_from(most, |parts| socket.read_vectored(parts))
            {
                Ok((0, _)) => self.host_done = true,
                // What came behind has news of its own, except an end that is known already.
                Ok((_, true)) if !self.ending => self.readable = false,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A segment of the guest.
    pub(super) fn guest_segment(&mut self, segment: &TcpRepr<'_>, room: usize) -> Fate {
        let sequence = segment.seq_number.0 as u32;
        if self.state == State::Calling {
            return self.called(segment, room);
        }
        if segment.control == TcpControl::Rst {
            // Only one that fits exactly is believed (RFC 9293, section 3.10.7.4).
            return if sequence == self.next_expected {
                Fate::Gone
            } else {
                Fate::Stays
            };
        }
        if self.state == State::Connecting {
            return Fate::Stays;
        }
        if segment.control == TcpControl::Syn {
            // Our answer is on its way.
            self.owes_acknowledgement = true;
            return Fate::Stays;
        }
        let Some(acknowledgement) = segment.ack_number else {
            return Fate::Stays;
        };
        if !self.acknowledge(acknowledgement.0 as u32, segment) {
            return Fate::Reset;
        }
        if self.state == State::Answered {
            return Fate::Stays;
        }
        self.take(sequence, segment.payload);
        let end = sequence.wrapping_add(segment.payload.len() as u32);
        if segment.control == TcpControl::Fin && end == self.next_expected && !self.guest_done {
            self.next_expected = end.wrapping_add(1);
            self.guest_done = true;
            self.owes_acknowledgement = true;
        }
        self.exchange(room)
    }

    /// The guest's answer to our SYN (RFC 9293, section 3.10.7.3).
    fn called(&mut self, segment: &TcpRepr<'_>, room: usize) -> Fate {
        let ours = self.unacknowledged.wrapping_add(1);
        let acknowledged = segment.ack_number.map(|number| number.0 as u32);
        // What does not fit is old, or forged by a program in the guest; nothing has come of it.
        if self.next != ours || acknowledged != Some(ours) {
            return Fate::Stays;
        }
        match segment.control {
            // Nobody listens there.
            TcpControl::Rst => return Fate::Gone,
            TcpControl::Syn => {}
            _ => return Fate::Stays,
        }
        self.take_options(segment);
        self.state = State::Open;
        self.unacknowledged = ours;
        self.resend_at = None;
        self.resends = 0;
        self.owes_acknowledgement = true;
        self.exchange(room)
    }

    /// Looks at what the guest acknowledges. False if it never got that.
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

    /// Takes payload of the guest as far as it is new and there is room.
    fn take(&mut self, sequence: u32, payload: &[u8]) {
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
        let fresh = payload.get(known..).unwrap_or_default();
        let mut fresh = fresh
            .get(..fresh.len().min(self.free()))
            .unwrap_or_default();
        self.next_expected = self.next_expected.wrapping_add(fresh.len() as u32);
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
        self.to_host.extend(fresh);
    }

    /// Room for what the guest sends.
    fn free(&self) -> usize {
        limits::BUFFER - self.to_host.len()
    }

    fn send_again(&mut self) {
        self.next = self.unacknowledged;
        self.end_sent = false;
    }

    /// Looks at the clock.
    pub(super) fn tick(&mut self, now: Instant) -> Fate {
        self.to_host.shrink();
        self.to_guest.shrink();
        // A closed window may have been opened without our noticing.
        let stuck = self.window == 0 && !self.to_guest.is_empty();
        if self.resend_at.is_none() && stuck && self.state == State::Open {
            self.resend_at = Some(now + RESEND);
        }
        if self.resend_at.is_none_or(|at| at > now) {
            return Fate::Stays;
        }
        if !stuck {
            self.resends += 1;
        }
        if self.resends > RESENDS {
            return Fate::Reset;
        }
        self.resend_at = Some(now + RESEND * (1 << self.resends.min(RESENDS)));
        if matches!(self.state, State::Answered | State::Calling) {
            self.owes_acknowledgement = true;
        } else {
            self.send_again();
            self.window = self.window.max(1);
        }
        Fate::Stays
    }

    /// Whether [`segment`](Self::segment) has one.
    pub(super) fn has_segment(&self) -> bool {
        match self.state {
            State::Connecting => false,
            State::Answered | State::Calling => self.owes_acknowledgement,
            State::Open => self.owes_acknowledgement || self.sendable() > 0 || self.end_is_due(),
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

    /// The next segment for the guest.
    pub(super) fn segment(&mut self, offloads: Offloads) -> Option<Frame> {
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
        let window = self.tell_window();
        let payload = self.to_guest.range(flight, len);
        Some(packet::tcp(&Segment {
            from: self.remote,
            to: self.guest,
            sequence,
            acknowledgement: self.next_expected,
            flags,
            window,
            options: &[],
            payload,
            size: self.segment_size,
            offload: offloads.checksum,
        }))
    }

    /// Our SYN, in answer to the guest's or not.
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

    /// What the guest is told of our room.
    fn tell_window(&mut self) -> u16 {
        self.owes_acknowledgement = false;
        let shift = if self.scale.is_some() { SCALE } else { 0 };
        let window = u16::try_from(self.free() >> shift).unwrap_or(u16::MAX);
        self.told_window = usize::from(window) << shift;
        window
    }

    /// A reset for the guest.
    pub(super) fn reset(&self, offloads: Offloads) -> Frame {
        reset(
            self.remote,
            self.guest,
            (self.next, Some(self.next_expected)),
            offloads,
        )
    }

    /// Lets the host's peer see a reset instead of an orderly end.
    pub(super) fn abort(self) {
        // It is closed in any case.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// A reset with a sequence number and, perhaps, an acknowledgement.
pub(super) fn reset(
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
