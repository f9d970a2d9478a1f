//! The NAT: frames from the guest, frames to the guest.

mod associations;
mod connections;
mod packets;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use smoltcp::wire::{EthernetFrame, EthernetProtocol};

use super::config::{NetworkConfig, Offloads};
use super::datagram::Association;
use super::dns::{Relay, Surroundings};
use super::egress::Egress;
use super::error::NetworkError;
use super::fragments::Fragments;
use super::handover::HandoverState;
use super::host_network::CurrentNetwork;
#[cfg(test)]
use super::host_network::HostNetwork;
#[cfg(test)]
use super::names::Names;
use super::packet::{self, Frame};
use super::port_forward::PortForward;
use super::reachability::Reachability;
use super::tcp::Connection;
use super::timer::Timer;
use super::{limits, neighbour};

/// Tokens of the timer and of the listener; the sockets' follow.
const TIMER: u64 = 0;
const LISTENER: u64 = 1;
/// Events that are taken at once.
const EVENTS: usize = 64;
/// Largest datagram (RFC 768).
const DATAGRAM: usize = 64 << 10;

/// Protocol, the guest's end, the other end as the guest knows it.
type Key = (u8, SocketAddr, SocketAddr);

/// The NAT of one guest. Belongs to one thread.
#[derive(Debug)]
pub struct Nat {
    egress: Egress,
    host: CurrentNetwork,
    offloads: Offloads,
    epoll: Epoll,
    timer: Timer,
    connections: HashMap<u64, Connection>,
    associations: HashMap<u64, Association>,
    port_forward: Option<PortForward>,
    keys: HashMap<Key, u64>,
    names: HashMap<u64, Key>,
    last: u64,
    replies: VecDeque<Frame>,
    /// Bytes of those.
    reply_bytes: usize,
    /// Connections that have something to send, in turn.
    sending: VecDeque<u64>,
    /// Bytes that all connections buffer.
    buffered: usize,
    /// Connections whose buffers in the kernel grow.
    tuned: usize,
    /// Connections that this process may have.
    most_connections: usize,
    relay: Relay,
    fragments: Fragments,
    handover: Option<HandoverState>,
    reachability: Reachability,
    scratch: Vec<u8>,
}

impl Nat {
    /// Creates a network as `config` says.
    ///
    /// # Errors
    /// If the host has no file descriptor left, or does not tell its routes where the policy asks for them.
    pub fn new(mut config: NetworkConfig) -> Result<Nat, NetworkError> {
        let host = |action| move |error: nix::Error| NetworkError::new(action)(error.into());
        let epoll =
            Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(host("cannot wait for sockets"))?;
        let port_forward = config.forward.take().map(PortForward::new).transpose();
        let port_forward =
            port_forward.map_err(NetworkError::new("cannot use the listening socket"))?;
        if let Some(port_forward) = &port_forward {
            let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
            epoll
                .add(port_forward.fd(), EpollEvent::new(flags, LISTENER))
                .map_err(host("cannot wait for connections into the guest"))?;
        }
        let egress = Egress::new(config.policy).map_err(NetworkError::new(
            "cannot ask the kernel for this host's routes",
        ))?;
        Ok(Nat {
            egress,
            host: config.host,
            offloads: Offloads::default(),
            epoll,
            timer: Timer::default(),
            connections: HashMap::new(),
            associations: HashMap::new(),
            port_forward,
            keys: HashMap::new(),
            names: HashMap::new(),
            last: LISTENER,
            replies: VecDeque::new(),
            reply_bytes: 0,
            sending: VecDeque::new(),
            buffered: 0,
            tuned: 0,
            most_connections: connections::most(),
            relay: Relay::default(),
            fragments: Fragments::default(),
            handover: config.handover.take().map(HandoverState::new),
            reachability: Reachability::default(),
            scratch: vec![0; DATAGRAM],
        })
    }

    /// Sets what the guest's driver can do from now on.
    pub fn set_offloads(&mut self, offloads: Offloads) {
        self.offloads = offloads;
    }

    /// Readable while [`poll`](Self::poll) has something to do.
    ///
    /// # Errors
    /// If the host has no file descriptor left.
    pub fn pollable(&self) -> io::Result<OwnedFd> {
        self.epoll.0.as_fd().try_clone_to_owned()
    }

    /// Handles a frame from the guest. Malformed ones are dropped.
    pub fn take(&mut self, frame: &[u8]) {
        let Ok(frame) = EthernetFrame::new_checked(frame) else {
            return;
        };
        match frame.ethertype() {
            EthernetProtocol::Arp => self.reply(neighbour::arp(frame.payload())),
            EthernetProtocol::Ipv4 => self.ipv4(frame.payload()),
            EthernetProtocol::Ipv6 => self.ipv6(frame.payload()),
            EthernetProtocol::Unknown(_) => {}
        }
        // It may have ended a connection that kept another one waiting.
        self.admit();
    }

    /// Handles the events of the host's sockets and of the timer.
    pub fn poll(&mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self
            .epoll
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        for event in events.iter().take(count) {
            let id = event.data();
            if id == TIMER {
                self.tick(Instant::now());
            } else if id == LISTENER {
                if let Some(port_forward) = &mut self.port_forward {
                    port_forward.knock();
                }
            } else if self.connections.contains_key(&id) {
                self.with(id, |connection, room| {
                    connection.host_event(event.events(), room)
                });
            } else if Relay::owns(id) {
                let mut scratch = std::mem::take(&mut self.scratch);
                self.with_relay(|relay, around| relay.receive(id, &mut scratch, around));
                self.scratch = scratch;
            } else {
                self.receive(id);
            }
        }
        self.admit();
    }

    /// Calls `act` with the relay of questions, and hands over what it has answered.
    fn with_relay<R>(&mut self, act: impl FnOnce(&mut Relay, &mut Surroundings<'_>) -> R) -> R {
        let host = self.host.get();
        let mut around = Surroundings {
            epoll: &self.epoll,
            host: &host,
            egress: &mut self.egress,
            now: Instant::now(),
        };
        let result = act(&mut self.relay, &mut around);
        drop(host);
        while let Some((asker, message)) = self.relay.next_answer() {
            let frame = packet::udp(asker.remote, asker.guest, &message);
            self.reply(Some(frame));
        }
        if self.relay.is_busy() {
            self.timer.start(&self.epoll, TIMER);
        }
        result
    }

    fn tick(&mut self, now: Instant) {
        self.timer.seen();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.tick_connection(id, now);
        }
        let expired =
            |(id, association): (&u64, &Association)| association.is_expired(now).then_some(*id);
        let ids: Vec<u64> = self.associations.iter().filter_map(expired).collect();
        for id in ids {
            self.remove(id);
        }
        self.make_way_for_callers(now);
        self.expire_fragments(now);
        if self.relay.is_busy() {
            self.with_relay(|relay, around| {
                around.now = now;
                relay.tick(around);
            });
        }
        if self.names.is_empty() && !self.relay.is_busy() && self.fragments.is_empty() {
            self.timer.stop();
        }
    }

    fn name(&mut self, id: u64, key: Key) {
        self.last = id;
        self.keys.insert(key, id);
        self.names.insert(id, key);
        self.timer.start(&self.epoll, TIMER);
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        if let Some(key) = self.names.remove(&id) {
            self.keys.remove(&key);
        }
        self.associations.remove(&id);
        let connection = self.connections.remove(&id)?;
        self.buffered -= connection.buffered();
        self.tuned -= usize::from(connection.is_tuned());
        if connection.queued {
            // The guest may never take what would clear it away.
            self.sending.retain(|sending| *sending != id);
        }
        if let (true, Some(handover)) = (connection.is_handed_over(), &mut self.handover) {
            handover.closed(id);
        }
        if connection.is_inbound() {
            self.forget_caller();
        }
        Some(connection)
    }

    /// Returns how much memory the connections may still take for what waits. What each of them may have
    /// always is left out.
    fn room(&self) -> usize {
        (limits::BUFFERS - limits::CONNECTIONS * limits::FLOOR).saturating_sub(self.buffered)
    }

    fn reply(&mut self, frame: Option<Frame>) {
        if let Some(frame) = frame
            && self.replies.len() < limits::REPLIES
            && self.reply_bytes + frame.bytes.len() <= limits::REPLY_BYTES
        {
            self.reply_bytes += frame.bytes.len();
            self.replies.push_back(frame);
        }
    }

    /// Returns the next frame for the guest, if there is one.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if let Some(frame) = self.replies.pop_front() {
            self.reply_bytes -= frame.bytes.len();
            return Some(frame);
        }
        let room = self.room();
        while let Some(id) = self.sending.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let frame = connection.segment(self.offloads, room);
            connection.queued = connection.has_segment();
            if connection.queued {
                self.sending.push_back(id);
            }
            if frame.is_some() {
                return frame;
            }
        }
        None
    }

    /// Pretends that the host has IPv6.
    #[cfg(test)]
    pub(super) fn force_ipv6(&mut self) {
        let known = self.host.get().clone();
        self.host.set(HostNetwork {
            ipv6: true,
            ..known
        });
    }

    /// Does what is done after so much time.
    #[cfg(test)]
    pub(super) fn pass(&mut self, time: std::time::Duration) {
        self.tick(Instant::now() + time);
    }

    /// Sets another limit of connections.
    #[cfg(test)]
    pub(super) fn limit(&mut self, connections: usize) {
        self.most_connections = connections;
    }

    /// Returns how many addresses are known of names, how many questions wait, and through how many
    /// sockets.
    #[cfg(test)]
    pub(super) fn names_load(&self) -> (usize, usize, usize) {
        let (questions, sockets) = self.relay.load();
        (
            self.egress.names.as_ref().map_or(0, Names::load),
            questions,
            sockets,
        )
    }

    /// Returns the sizes of the buffers that the kernel has for each socket: to receive, to send.
    #[cfg(test)]
    pub(super) fn kernel_buffers(&self) -> Vec<(usize, usize)> {
        let connections = self.connections.values().map(Connection::fd);
        let all = connections.chain(self.associations.values().map(Association::fd));
        all.map(|fd| {
            let socket = socket2::SockRef::from(&fd);
            let receive = socket.recv_buffer_size().unwrap_or(usize::MAX);
            (receive, socket.send_buffer_size().unwrap_or(usize::MAX))
        })
        .collect()
    }

    /// Returns the length of the queue of connections that have something to send.
    #[cfg(test)]
    pub(super) fn queue(&self) -> usize {
        self.sending.len()
    }

    /// Returns the number of connections and of associations, and the bytes that are buffered.
    pub fn load(&self) -> (usize, usize, usize) {
        (
            self.connections.len(),
            self.associations.len(),
            self.buffered,
        )
    }
}

/// Largest frame that a guest's driver may hand over: the largest IP packet with its header.
pub const LARGEST_FRAME: usize = packet::ETHERNET + 65535;
