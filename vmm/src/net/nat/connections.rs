//! TCP connections of the NAT.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr};

use super::{Key, Nat};
use crate::net::addresses::is_name_server;
use crate::net::egress::Destination;
use crate::net::handover::HandoverState;
use crate::net::kernel_buffers::KernelBuffers;
use crate::net::limits;
use crate::net::packet::PROTOCOL_TCP;
use crate::net::port_forward::PortForward;
use crate::net::tcp::{self, Connection, ConnectionOutcome, Ends};

/// Time for a name server to answer a SYN before the next one is asked.
const NAME_SERVER_PATIENCE: Duration = Duration::from_secs(2);

/// Time of silence after which a connection into the guest that is not open both ways is unused.
const UNUSED: Duration = Duration::from_secs(10);

/// Returns how many connections this process may have.
pub(super) fn most() -> usize {
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    let others = limits::ASSOCIATIONS + limits::SERVERS * limits::SERVER_SOCKETS;
    limits::CONNECTIONS
        .min(files.saturating_sub(limits::OTHER_FILES + others))
        .max(1)
}

impl Nat {
    pub(super) fn tcp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
        let Ok(packet) = TcpPacket::new_checked(bytes) else {
            return;
        };
        let ignored = ChecksumCapabilities::ignored();
        let Ok(segment) = TcpRepr::parse(&packet, &from.into(), &to.into(), &ignored) else {
            return;
        };
        let guest = SocketAddr::new(from, segment.src_port);
        let remote = SocketAddr::new(to, segment.dst_port);
        if let Some(&id) = self.keys.get(&(PROTOCOL_TCP, guest, remote)) {
            self.with(id, |connection, room| {
                connection.guest_segment(&segment, room)
            });
        } else if segment.control == TcpControl::Syn && segment.ack_number.is_none() {
            self.open(guest, remote, &segment);
        } else if segment.control != TcpControl::Rst {
            self.refuse(guest, remote, &segment);
        }
    }

    /// Connects to where the guest wants to go.
    pub(super) fn open(&mut self, guest: SocketAddr, remote: SocketAddr, segment: &TcpRepr<'_>) {
        let host = match self.egress.destination(remote) {
            Destination::Host(host) => host,
            Destination::Absent => return self.open_elsewhere(guest, remote, segment),
            // Over TCP, a question would have to be put together from segments to be looked at. Answers
            // of a hermetic network fit a datagram.
            Destination::NameServer if self.egress.names.is_some() || self.egress.offline => {
                return self.refuse(guest, remote, segment);
            }
            Destination::NameServer => self.with_relay(|relay, around| relay.server(around)),
            Destination::Unreachable => return self.refuse(guest, remote, segment),
        };
        let mut first = [0; 4];
        if !self.has_place() || crate::random(&mut first).is_err() {
            return self.refuse(guest, remote, segment);
        }
        let first = u32::from_ne_bytes(first);
        let ends = Ends { guest, remote };
        let buffers = KernelBuffers::beside(self.tuned);
        match Connection::connect(ends, host, segment, first, buffers) {
            Ok(mut connection) => {
                let asks = is_name_server(remote.ip());
                connection.name_servers = asks.then_some(0);
                connection.connect_by(self.deadline(host, asks));
                if self
                    .insert(connection, (PROTOCOL_TCP, guest, remote))
                    .is_err()
                {
                    self.refuse(guest, remote, segment);
                }
            }
            Err(error) => {
                log::debug!("no connection to {host}: {error}");
                self.refuse(guest, remote, segment);
            }
        }
    }

    /// Has another process be the peer, where no server is reached.
    fn open_elsewhere(&mut self, guest: SocketAddr, remote: SocketAddr, segment: &TcpRepr<'_>) {
        let mut first = [0; 4];
        let id = self.last + 1;
        let is_for = |handover: &HandoverState| handover.is_for(remote.port());
        let stream = if self.handover.as_ref().is_some_and(is_for)
            && self.has_place()
            && crate::random(&mut first).is_ok()
        {
            let handover = self.handover.as_mut();
            handover.and_then(|handover| handover.offer(id, None))
        } else {
            None
        };
        let Some(stream) = stream else {
            return self.refuse(guest, remote, segment);
        };
        let ends = Ends { guest, remote };
        let connection = Connection::elsewhere(ends, stream, segment, u32::from_ne_bytes(first));
        let key = (PROTOCOL_TCP, guest, remote);
        match self.insert(connection, key) {
            Ok(id) => self.with(id, Connection::exchange),
            Err(_) => {
                if let Some(handover) = &mut self.handover {
                    handover.closed(id);
                }
                self.refuse(guest, remote, segment);
            }
        }
    }

    /// When a connection to `host` is given up if it has not come about.
    fn deadline(&mut self, host: SocketAddr, asks: bool) -> Option<Instant> {
        let now = Instant::now();
        if asks {
            return Some(now + NAME_SERVER_PATIENCE);
        }
        let public = self.egress.is_public(host.ip());
        let network = self.host.get();
        let deadline = public.then(|| self.reachability.deadline(host, &network, now));
        deadline.flatten()
    }

    /// Whether there is a place for one more connection, after another one has given way if it must.
    fn has_place(&mut self) -> bool {
        if self.connections.len() < self.most_connections {
            return true;
        }
        let idlest = self.idlest(Instant::now(), |_| true);
        if let Some((_, id)) = idlest {
            self.settle(id, ConnectionOutcome::Failed);
        }
        idlest.is_some()
    }

    /// Returns which of some connections may give way to another one, and how long it has been silent.
    fn idlest(&self, now: Instant, among: impl Fn(&Connection) -> bool) -> Option<(Duration, u64)> {
        let candidates = self.connections.iter().filter(|(_, one)| among(one));
        let candidates = candidates.filter_map(|(id, one)| Some((one.may_go(now)?, *id)));
        candidates.max()
    }

    /// Closes an idle connection into the guest so that a waiting caller gets its place.
    pub(super) fn make_way_for_callers(&mut self, now: Instant) {
        if self.port_forward.as_ref().is_some_and(PortForward::is_full)
            && let Some((silent, id)) = self.idlest(now, Connection::is_inbound)
            && silent >= UNUSED
        {
            self.settle(id, ConnectionOutcome::Failed);
            self.admit();
        }
    }

    /// Adds a connection and watches its socket.
    pub(super) fn insert(&mut self, connection: Connection, key: Key) -> nix::Result<u64> {
        let id = self.last + 1;
        self.epoll.add(connection.fd(), events(id))?;
        self.name(id, key);
        self.tuned += usize::from(connection.is_tuned());
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// Accepts callers that wait to be connected to the guest, as far as there is room.
    pub(super) fn admit(&mut self) {
        if self.port_forward.is_none() {
            return;
        }
        while self.connections.len() < self.most_connections
            && let Some(port_forward) = &mut self.port_forward
            && let Some(socket) = port_forward.next()
        {
            let guest = port_forward.guest();
            let keys = &self.keys;
            let caller =
                port_forward.caller(|caller| keys.contains_key(&(PROTOCOL_TCP, guest, caller)));
            let mut first = [0; 4];
            let id = match caller {
                Some(caller) if crate::random(&mut first).is_ok() => {
                    let first = u32::from_ne_bytes(first);
                    let ends = Ends {
                        guest,
                        remote: caller,
                    };
                    let buffers = KernelBuffers::beside(self.tuned);
                    let connection = Connection::call(ends, socket, first, buffers).ok();
                    let key = (PROTOCOL_TCP, guest, caller);
                    connection.and_then(|connection| self.insert(connection, key).ok())
                }
                _ => None,
            };
            match id {
                Some(id) => self.with(id, Connection::exchange),
                // Its socket is closed.
                None => self.forget_caller(),
            }
        }
    }

    pub(super) fn forget_caller(&mut self) {
        if let Some(port_forward) = &mut self.port_forward {
            port_forward.closed();
        }
    }

    /// Answers a segment that belongs to nothing (RFC 9293, section 3.10.7.1).
    pub(super) fn refuse(&mut self, guest: SocketAddr, remote: SocketAddr, segment: &TcpRepr<'_>) {
        let numbers = match segment.ack_number {
            Some(acknowledgement) => (acknowledgement.0 as u32, None),
            None => {
                let end = (segment.seq_number.0 as u32).wrapping_add(segment.segment_len() as u32);
                (0, Some(end))
            }
        };
        let reset = tcp::reset(remote, guest, numbers, self.offloads);
        self.reply(Some(reset));
    }

    /// Gives a connection its turn.
    pub(super) fn tick_connection(&mut self, id: u64, now: Instant) {
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        if let Some(host) = connection
            .connecting_to()
            .filter(|_| connection.is_overdue(now))
        {
            log::debug!("{host} does not answer");
            if connection.name_servers.is_none() {
                self.reachability.silent(host.ip());
            }
            self.settle(id, ConnectionOutcome::Failed);
        } else {
            self.with(id, |connection, _| connection.tick(now));
        }
    }

    /// Calls `act` with a connection, and does what the outcome says.
    pub(super) fn with(
        &mut self,
        id: u64,
        act: impl FnOnce(&mut Connection, usize) -> ConnectionOutcome,
    ) {
        let room = self.room();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let before = connection.buffered();
        let connecting = connection.connecting_to();
        let outcome = act(connection, room);
        self.buffered = self.buffered + connection.buffered() - before;
        if let Some(host) = connecting {
            let came = connection.connecting_to().is_none();
            let asks = connection.name_servers.is_some();
            if came || outcome == ConnectionOutcome::Failed && connection.is_refused() {
                self.reachability.answered(host.ip(), Instant::now());
            }
            if came && asks {
                self.with_relay(|relay, around| relay.connected(host, true, around.now));
            } else if came {
                self.hand_over(id);
            }
        }
        let outcome = self.outcome_elsewhere(id, outcome);
        self.settle(id, outcome);
    }

    /// Has another process continue a connection that has just come about, if it is one for that.
    fn hand_over(&mut self, id: u64) {
        let (Some(handover), Some(connection)) =
            (&mut self.handover, self.connections.get_mut(&id))
        else {
            return;
        };
        let Some((_, _, remote)) = self.names.get(&id) else {
            return;
        };
        if !handover.is_for(remote.port()) || !connection.may_be_handed_over() {
            return;
        }
        let Some(stream) = handover.offer(id, Some(connection.fd())) else {
            return;
        };
        // The socket is open in the other process, so that it would be watched on.
        let watched = self.epoll.delete(connection.fd());
        connection.hand_over(stream);
        let watched = watched.and_then(|()| self.epoll.add(connection.fd(), events(id)));
        if let Err(error) = watched {
            log::debug!("a connection cannot be handed over: {error}");
            self.abort(id);
        }
    }

    /// What becomes of a connection that another process continues may be known there only.
    fn outcome_elsewhere(&mut self, id: u64, outcome: ConnectionOutcome) -> ConnectionOutcome {
        let connection = self.connections.get(&id);
        let ended = connection.is_some_and(|one| one.is_handed_over() && one.is_host_done());
        let reset = |handover: &mut HandoverState| handover.is_reset(id);
        if ended && self.handover.as_mut().is_some_and(reset) {
            ConnectionOutcome::Failed
        } else {
            outcome
        }
    }

    /// Queues or removes a connection as the outcome says.
    fn settle(&mut self, id: u64, outcome: ConnectionOutcome) {
        let room = self.room();
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match outcome {
            ConnectionOutcome::Continues => {
                if connection.has_segment() && !connection.queued {
                    connection.queued = true;
                    self.sending.push_back(id);
                }
            }
            ConnectionOutcome::Closed => {
                let last = connection.segment(self.offloads, room);
                self.remove(id);
                self.reply(last);
            }
            ConnectionOutcome::Failed if self.ask_elsewhere(id) => {}
            ConnectionOutcome::Failed => {
                let reset = self.connections.get(&id);
                let reset = reset.map(|connection| connection.reset(self.offloads));
                self.abort(id);
                self.reply(reset);
            }
            ConnectionOutcome::Dropped => self.abort(id),
        }
    }

    /// Has a connection to a name server that does not answer connect to the next one, if there is one.
    fn ask_elsewhere(&mut self, id: u64) -> bool {
        let connection = self.connections.get(&id);
        let Some((failed, tried)) = connection
            .and_then(|connection| connection.connecting_to().zip(connection.name_servers))
        else {
            return false;
        };
        let known = self.host.get().resolver.servers.len();
        let next = self.with_relay(|relay, around| {
            relay.connected(failed, false, around.now);
            // The one that failed is the last of them now.
            relay.server(around)
        });
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        connection.name_servers = Some(tried + 1);
        connection.connect_by(Some(Instant::now() + NAME_SERVER_PATIENCE));
        tried + 1 < known
            && connection.connect_elsewhere(next).is_ok()
            && self.epoll.add(connection.fd(), events(id)).is_ok()
    }

    pub(super) fn abort(&mut self, id: u64) {
        if let Some(connection) = self.remove(id) {
            connection.abort();
        }
    }
}

/// The events of a connection's socket: edge-triggered.
fn events(id: u64) -> EpollEvent {
    let flags =
        EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    EpollEvent::new(flags, id)
}
