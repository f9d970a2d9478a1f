//! TCP connections of the NAT.

use std::net::{IpAddr, SocketAddr};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{TcpControl, TcpPacket, TcpRepr};

use super::{Key, Nat};
use crate::net::egress::Destination;
use crate::net::kernel_buffers::KernelBuffers;
use crate::net::limits;
use crate::net::packet::PROTOCOL_TCP;
use crate::net::tcp::{self, Connection, ConnectionOutcome, Ends};

/// Returns how many connections this process may have.
pub(super) fn most() -> usize {
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    limits::CONNECTIONS
        .min(files.saturating_sub(limits::OTHER_FILES + limits::ASSOCIATIONS))
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
            // Over TCP, a question would have to be put together from segments to be looked at. Answers
            // of a hermetic network fit a datagram.
            Destination::NameServer if self.egress.names.is_some() => {
                return self.refuse(guest, remote, segment);
            }
            Destination::NameServer => self.name_server(),
            Destination::Unreachable => return self.refuse(guest, remote, segment),
        };
        let mut first = [0; 4];
        if self.connections.len() >= self.most_connections || crate::random(&mut first).is_err() {
            return self.refuse(guest, remote, segment);
        }
        let first = u32::from_ne_bytes(first);
        let ends = Ends { guest, remote };
        let buffers = KernelBuffers::beside(self.tuned);
        match Connection::connect(ends, host, segment, first, buffers) {
            Ok(connection) => {
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

    /// Adds a connection and watches its socket.
    pub(super) fn insert(&mut self, connection: Connection, key: Key) -> nix::Result<u64> {
        let id = self.last + 1;
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll
            .add(connection.fd(), EpollEvent::new(flags, id))?;
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

    /// Calls `act` with a connection, and queues or removes it as the outcome says.
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
        let outcome = act(connection, room);
        self.buffered = self.buffered + connection.buffered() - before;
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
            ConnectionOutcome::Failed => {
                let reset = connection.reset(self.offloads);
                self.abort(id);
                self.reply(Some(reset));
            }
            ConnectionOutcome::Dropped => self.abort(id),
        }
    }

    pub(super) fn abort(&mut self, id: u64) {
        if let Some(connection) = self.remove(id) {
            connection.abort();
        }
    }
}
