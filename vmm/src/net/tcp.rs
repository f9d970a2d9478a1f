//! One TCP connection of the guest (RFC 9293), continued by a socket of the host. Either side may
//! have begun it.
//!
//! The link to the guest loses nothing and keeps order, so there is no congestion to control
//! and nothing to reassemble; what the guest drops by itself is sent again, in order. A
//! connection buffers at most [`limits::BUFFER`] bytes each way, and only what it must.

mod receive;
mod send;
mod wire;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::sys::epoll::EpollFlags;
use smoltcp::wire::TcpRepr;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use self::wire::{RESEND, RESENDS, SEGMENT_4, SEGMENT_6};
use super::kernel_buffers::KernelBuffers;
use super::limits;
use super::ring::Ring;

pub(super) use self::wire::reset;
#[cfg(test)]
pub(super) use self::wire::{ACK, FIN, RST, SYN};

/// What a peer takes that does not say (RFC 9293, section 3.7.1), and the least that is believed.
const DEFAULT_SEGMENT: u16 = 536;
const LEAST_SEGMENT: u16 = 64;
/// Largest shift that a peer may ask for (RFC 7323, section 2.3).
const MOST_SCALE: u8 = 14;
/// Time without a word after which the guest is asked whether it knows the connection, and the time
/// after which the host's peer is, and between two questions (tcp(7), `TCP_KEEPIDLE`, `TCP_KEEPINTVL`).
const IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE: Duration = Duration::from_secs(120);
const KEEPALIVE_AGAIN: Duration = Duration::from_secs(30);
/// Time without a word after which one that is half closed gives way to a new one, and after which one
/// does that is not open yet: the guest would have sent its SYN again (RFC 6298).
const HALF_CLOSED: Duration = Duration::from_secs(2);
const ABANDONED: Duration = Duration::from_secs(10);

/// State of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The host's socket is being connected; the guest waits for its answer.
    Connecting,
    /// Our SYN has answered the guest's, and is not acknowledged yet.
    Answered,
    /// Our SYN calls the guest, which has not answered yet.
    Calling,
    Open,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum ConnectionOutcome {
    /// It goes on.
    Continues,
    /// Both sides have closed it.
    Closed,
    /// It is broken: the guest gets a reset.
    Failed,
    /// It is gone without a word to the guest, which has reset it or never heard of it.
    Dropped,
}

/// The guest's end of a connection, and the other end as the guest knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) guest: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A connection of the guest, with its socket on the host.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    guest: SocketAddr,
    remote: SocketAddr,
    state: State,
    /// Whether the host has begun it.
    inbound: bool,
    kernel_buffers: KernelBuffers,
    /// The socket may have something to read or room to write: edge-triggered.
    readable: bool,
    writable: bool,
    /// The end of the stream is among what there is to read.
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
    /// The highest sequence number that was ever sent.
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
    /// The guest is asked whether it knows the connection.
    owes_probe: bool,
    /// When either side last said something.
    last_active: Instant,
    /// When it is given up if it is not connected.
    deadline: Option<Instant>,
    /// Where the socket is connected to.
    host: SocketAddr,
    /// Name servers that it was not connected to, if it leads to one.
    pub(super) name_servers: Option<usize>,
    /// The window that was advertised last.
    told_window: usize,
    /// Whether it is in the queue of connections with something to send.
    pub(super) queued: bool,
    /// Whether another process continues it: the socket is a stream to that one.
    handed_over: bool,
}

impl Connection {
    /// Begins to connect to `host`, which the guest knows as `ends.remote`, for its first segment.
    ///
    /// # Errors
    /// If that fails at once.
    pub(super) fn connect(
        ends: Ends,
        host: SocketAddr,
        syn: &TcpRepr<'_>,
        first: u32,
        kernel_buffers: KernelBuffers,
    ) -> io::Result<Connection> {
        let socket = connecting(host, kernel_buffers)?;
        let mut connection = Connection::new(socket, ends, State::Connecting, first);
        connection.host = host;
        connection.kernel_buffers = kernel_buffers;
        connection.take_options(syn);
        Ok(connection)
    }

    /// Begins one whose peer is another process, at the other end of `stream`.
    pub(super) fn elsewhere(
        ends: Ends,
        stream: Socket,
        syn: &TcpRepr<'_>,
        first: u32,
    ) -> Connection {
        let mut connection = Connection::new(stream, ends, State::Answered, first);
        connection.handed_over = true;
        connection.owes_acknowledgement = true;
        connection.take_options(syn);
        connection
    }

    /// Begins to connect to another `host` in place of one that does not answer.
    ///
    /// # Errors
    /// If that fails at once.
    pub(super) fn connect_elsewhere(&mut self, host: SocketAddr) -> io::Result<()> {
        self.socket = connecting(host, self.kernel_buffers)?;
        self.host = host;
        (self.readable, self.writable, self.ending) = (false, false, false);
        Ok(())
    }

    /// Whether another process may continue it: the guest has begun it, and its peer has said nothing yet.
    pub(super) fn may_be_handed_over(&self) -> bool {
        !self.inbound
            && self.state == State::Answered
            && !self.host_done
            && self.to_guest.is_empty()
            && self.to_host.is_empty()
    }

    /// Puts the stream to another process in the place of the socket, which is dropped here.
    pub(super) fn hand_over(&mut self, stream: Socket) {
        self.socket = stream;
        self.handed_over = true;
        (self.readable, self.writable, self.ending) = (false, false, false);
    }

    /// Whether another process continues it.
    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over
    }

    /// Whether its peer has said all that it will say.
    pub(super) fn is_host_done(&self) -> bool {
        self.host_done
    }

    /// Begins to call the guest for `socket`, which it shall know as `ends.remote`.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub(super) fn call(
        ends: Ends,
        socket: Socket,
        first: u32,
        kernel_buffers: KernelBuffers,
    ) -> io::Result<Connection> {
        notice_the_end(&socket)?;
        kernel_buffers.set(&socket)?;
        let mut connection = Connection::new(socket, ends, State::Calling, first);
        connection.kernel_buffers = kernel_buffers;
        connection.owes_acknowledgement = true;
        Ok(connection)
    }

    fn new(socket: Socket, ends: Ends, state: State, first: u32) -> Connection {
        Connection {
            socket,
            guest: ends.guest,
            remote: ends.remote,
            state,
            inbound: state == State::Calling,
            kernel_buffers: KernelBuffers::Small,
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
            owes_probe: false,
            last_active: Instant::now(),
            deadline: None,
            host: ends.remote,
            name_servers: None,
            told_window: 0,
            queued: false,
            handed_over: false,
        }
    }

    /// Takes sequence number, window and options of the guest's SYN.
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

    /// Where its socket is being connected to, if it is not connected yet.
    pub(super) fn connecting_to(&self) -> Option<SocketAddr> {
        (self.state == State::Connecting).then_some(self.host)
    }

    /// Gives it up if it is not connected by then.
    pub(super) fn connect_by(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Whether it has not been connected in time.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        self.state == State::Connecting && self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// How long it has been silent, if it may give way to another one.
    pub(super) fn may_go(&self, now: Instant) -> Option<Duration> {
        let silent = now.duration_since(self.last_active);
        let least = match self.state {
            State::Connecting | State::Answered | State::Calling => ABANDONED,
            State::Open if self.guest_done || self.host_done => HALF_CLOSED,
            State::Open => return None,
        };
        (silent >= least).then_some(silent)
    }

    /// Whether the socket's error is a refusal: there is somebody to refuse.
    pub(super) fn is_refused(&self) -> bool {
        let error = self.socket.take_error().ok().flatten();
        error.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    }

    /// Whether the host has begun it, not the guest.
    pub(super) fn is_inbound(&self) -> bool {
        self.inbound
    }

    /// Whether the kernel's buffers of its socket grow.
    pub(super) fn is_tuned(&self) -> bool {
        self.kernel_buffers == KernelBuffers::Tuned
    }

    /// Memory that is kept for what waits for either side, in bytes.
    pub(super) fn buffered(&self) -> usize {
        self.to_host.capacity() + self.to_guest.capacity()
    }

    /// Handles an event of the host's socket. `room` is how much memory all
    /// connections together may still take for what waits.
    pub(super) fn host_event(&mut self, news: EpollFlags, room: usize) -> ConnectionOutcome {
        let failed = news.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        // Room to write is no word of the peer's.
        if news.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP) {
            self.last_active = Instant::now();
        }
        self.ending |= failed || news.contains(EpollFlags::EPOLLRDHUP);
        self.readable |= self.ending || news.contains(EpollFlags::EPOLLIN);
        self.writable |= failed || news.contains(EpollFlags::EPOLLOUT);
        if self.state == State::Connecting {
            if failed {
                return ConnectionOutcome::Failed;
            }
            // There is no room to write before there is a peer.
            if !self.writable {
                return ConnectionOutcome::Continues;
            }
            self.state = State::Answered;
            self.owes_acknowledgement = true;
        }
        if self.state == State::Calling && failed {
            // The caller is gone. The guest may know nothing of it yet.
            return if self.next == self.unacknowledged {
                ConnectionOutcome::Dropped
            } else {
                ConnectionOutcome::Failed
            };
        }
        self.exchange(room)
    }

    /// Moves what can be moved between the buffers and the host's socket.
    pub(super) fn exchange(&mut self, room: usize) -> ConnectionOutcome {
        if matches!(self.state, State::Connecting | State::Calling) {
            return ConnectionOutcome::Continues;
        }
        if self.flush(room).is_err() || self.fill(room).is_err() {
            return ConnectionOutcome::Failed;
        }
        self.outcome()
    }

    fn outcome(&self) -> ConnectionOutcome {
        let sent = self.end_sent && self.unacknowledged == self.next;
        if sent && self.host_told {
            ConnectionOutcome::Closed
        } else {
            ConnectionOutcome::Continues
        }
    }

    /// Writes to the host what is left for it.
    fn flush(&mut self, room: usize) -> io::Result<()> {
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
        if self.state == State::Open && self.told_window < limits::FAIR_BUFFER / 4 {
            let free = self.free(room);
            let again = self.told_window < usize::from(SEGMENT_4) && free >= limits::FLOOR;
            self.owes_acknowledgement |= again || free >= limits::FAIR_BUFFER / 2;
        }
        Ok(())
    }

    /// Reads from the host what the guest may get.
    fn fill(&mut self, room: usize) -> io::Result<()> {
        // Some of it always, so that none starves where all together buffer too much.
        let most = self.to_guest.most_with(room).max(limits::FLOOR);
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

    /// Room for what the guest sends.
    fn free(&self, room: usize) -> usize {
        let buffer = self.to_host.most_with(room) - self.to_host.len();
        if self.writable && self.to_host.is_empty() {
            // What the host takes at once needs no buffer.
            buffer.max(limits::FLOOR)
        } else {
            buffer
        }
    }

    fn send_again(&mut self) {
        self.next = self.unacknowledged;
        self.end_sent = false;
    }

    /// Handles a tick of the timer: sends again what was not acknowledged in time.
    pub(super) fn tick(&mut self, now: Instant) -> ConnectionOutcome {
        self.to_host.shrink();
        self.to_guest.shrink();
        // A closed window may have been opened without our noticing.
        let stuck = self.window == 0 && !self.to_guest.is_empty();
        if self.resend_at.is_none() && stuck && self.state == State::Open {
            self.resend_at = Some(now + RESEND);
        }
        if self.resend_at.is_none_or(|at| at > now) {
            let idle = now.duration_since(self.last_active) >= IDLE;
            if idle && self.state == State::Open && self.resend_at.is_none() {
                // A guest that has forgotten it answers with a reset (RFC 9293, section 3.8.4).
                self.owes_probe = true;
                self.last_active = now;
            }
            return ConnectionOutcome::Continues;
        }
        if !stuck {
            self.resends += 1;
        }
        if self.resends > RESENDS {
            return ConnectionOutcome::Failed;
        }
        self.resend_at = Some(now + RESEND * (1 << self.resends.min(RESENDS)));
        if matches!(self.state, State::Answered | State::Calling) {
            self.owes_acknowledgement = true;
        } else {
            self.send_again();
            self.window = self.window.max(1);
        }
        ConnectionOutcome::Continues
    }

    /// Lets the host's peer see a reset instead of an orderly end.
    pub(super) fn abort(self) {
        // It is closed in any case.
        let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}

/// Returns a socket that is being connected to `host`.
fn connecting(host: SocketAddr, kernel_buffers: KernelBuffers) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking();
    let socket = Socket::new(Domain::for_address(host), kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    notice_the_end(&socket)?;
    kernel_buffers.set(&socket)?;
    match socket.connect(&host.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}

/// Has the kernel notice that a silent peer is gone. What the guest asks itself is answered here, so that
/// it does not.
fn notice_the_end(socket: &Socket) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    socket.set_tcp_keepalive(&keepalive.with_interval(KEEPALIVE_AGAIN))
}
