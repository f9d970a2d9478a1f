//! Takes the guest's frames, and has frames for it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit};
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, Ipv4Packet, Ipv6Packet, TcpControl, TcpPacket, TcpRepr,
    UdpPacket,
};

use super::addresses::{Destination, GATEWAY, PREFIX_6, destination, is_ours};
use super::config::{NetworkConfig, Offloads};
use super::datagram::{Association, Kind};
use super::error::NetworkError;
use super::packet::{self, Frame, ICMP, ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use super::port_forward::PortForward;
use super::tcp::{self, Connection, Fate};
use super::timer::Timer;
use super::{dhcp, icmp, limits, neighbour, resolver};

/// Tokens of the timer and of the listener; other sockets have those behind them.
const TIMER: u64 = 0;
const LISTENER: u64 = 1;
/// Events that are taken at once.
const EVENTS: usize = 64;
/// Largest datagram (RFC 768).
const DATAGRAM: usize = 64 << 10;

/// What belongs together: protocol, the guest's end, the other end as the guest knows it.
type Key = (u8, SocketAddr, SocketAddr);

/// A guest's way into the world. Belongs to one thread.
#[derive(Debug)]
pub struct Nat {
    config: NetworkConfig,
    offloads: Offloads,
    /// Whether the host reaches the IPv6 world, once somebody has asked.
    ipv6: Option<bool>,
    epoll: Epoll,
    timer: Timer,
    connections: HashMap<u64, Connection>,
    associations: HashMap<u64, Association>,
    port_forward: Option<PortForward>,
    keys: HashMap<Key, u64>,
    names: HashMap<u64, Key>,
    last: u64,
    replies: VecDeque<Frame>,
    /// Connections that have something to send, in turn.
    sending: VecDeque<u64>,
    /// Bytes that all connections buffer.
    buffered: usize,
    /// See [`most_connections`](Self::most_connections).
    most_connections: Option<usize>,
    /// Questions that no name server took.
    failures: usize,
    scratch: Vec<u8>,
}

impl Nat {
    /// A network as `config` says.
    ///
    /// # Errors
    /// If the host has no file descriptor left.
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
        Ok(Nat {
            config,
            offloads: Offloads::default(),
            ipv6: None,
            epoll,
            timer: Timer::default(),
            connections: HashMap::new(),
            associations: HashMap::new(),
            port_forward,
            keys: HashMap::new(),
            names: HashMap::new(),
            last: LISTENER,
            replies: VecDeque::new(),
            sending: VecDeque::new(),
            buffered: 0,
            most_connections: None,
            failures: 0,
            scratch: vec![0; DATAGRAM],
        })
    }

    /// What the guest's driver can do from now on.
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

    /// A frame from the guest. One that makes no sense is dropped.
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

    fn ipv4(&mut self, bytes: &[u8]) {
        let Ok(packet) = Ipv4Packet::new_checked(bytes) else {
            return;
        };
        // Nothing that is sent over this link needs fragments: see docs/network.md.
        if packet.version() != 4 || packet.more_frags() || packet.frag_offset() != 0 {
            return;
        }
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let payload = packet.payload();
        if packet.next_header() == smoltcp::wire::IpProtocol::Udp
            && (to == GATEWAY || to.is_broadcast())
            && let Ok(datagram) = UdpPacket::new_checked(payload)
            && datagram.dst_port() == dhcp::SERVER_PORT
        {
            self.reply(dhcp::answer(datagram.payload()));
            return;
        }
        let local = from.octets()[..3] == GATEWAY.octets()[..3];
        if local && !is_ours(IpAddr::V4(from)) {
            let protocol = packet.next_header().into();
            self.transport(IpAddr::V4(from), IpAddr::V4(to), protocol, payload, bytes);
        }
    }

    fn ipv6(&mut self, bytes: &[u8]) {
        let Ok(packet) = Ipv6Packet::new_checked(bytes) else {
            return;
        };
        if packet.version() != 6 {
            return;
        }
        let (from, to) = (packet.src_addr(), packet.dst_addr());
        let payload = packet.payload();
        let protocol = packet.next_header().into();
        // Only neighbours have not lost a hop (RFC 4861, section 6.1.1).
        if protocol == ICMPV6
            && packet.hop_limit() == u8::MAX
            && let Some(reply) = neighbour::ndp(from, payload, || self.has_ipv6())
        {
            self.reply(Some(reply));
            return;
        }
        let local =
            from.segments()[..4] == PREFIX_6.segments()[..4] || from.is_unicast_link_local();
        if local && !is_ours(IpAddr::V6(from)) {
            self.transport(IpAddr::V6(from), IpAddr::V6(to), protocol, payload, bytes);
        }
    }

    fn has_ipv6(&mut self) -> bool {
        *self.ipv6.get_or_insert_with(|| {
            let routes = std::fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
            neighbour::host_has_ipv6(&routes)
        })
    }

    fn transport(&mut self, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8], packet: &[u8]) {
        match protocol {
            PROTOCOL_TCP => self.tcp(from, to, payload),
            PROTOCOL_UDP => self.udp(from, to, payload, packet),
            ICMP | ICMPV6 => self.echo(from, to, payload),
            _ => {}
        }
    }

    fn tcp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8]) {
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

    /// As many connections as this process may have.
    fn most_connections(&mut self) -> usize {
        *self.most_connections.get_or_insert_with(|| {
            let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
            let files = usize::try_from(files).unwrap_or(usize::MAX);
            limits::CONNECTIONS
                .min(files.saturating_sub(limits::OTHER_FILES + limits::ASSOCIATIONS))
                .max(1)
        })
    }

    /// Connects to where the guest wants to go.
    fn open(&mut self, guest: SocketAddr, remote: SocketAddr, segment: &TcpRepr<'_>) {
        let host = match destination(remote, &self.config) {
            Destination::Host(host) => host,
            Destination::NameServer => resolver::server(self.failures),
            Destination::Nobody => return self.refuse(guest, remote, segment),
        };
        let mut first = [0; 4];
        if self.connections.len() >= self.most_connections() || crate::random(&mut first).is_err() {
            return self.refuse(guest, remote, segment);
        }
        let first = u32::from_ne_bytes(first);
        match Connection::connect(guest, remote, host, segment, first) {
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

    /// Watches over a connection from now on.
    fn insert(&mut self, connection: Connection, key: Key) -> nix::Result<u64> {
        let id = self.last + 1;
        let flags = EpollFlags::EPOLLIN
            | EpollFlags::EPOLLOUT
            | EpollFlags::EPOLLRDHUP
            | EpollFlags::EPOLLET;
        self.epoll
            .add(connection.fd(), EpollEvent::new(flags, id))?;
        self.name(id, key);
        self.connections.insert(id, connection);
        Ok(id)
    }

    /// Lets in who waits to be connected to the guest, as far as there is room.
    fn admit(&mut self) {
        if self.port_forward.is_none() {
            return;
        }
        let most = self.most_connections();
        while self.connections.len() < most
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
                    let connection = Connection::call(guest, caller, socket, first);
                    self.insert(connection, (PROTOCOL_TCP, guest, caller)).ok()
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

    fn forget_caller(&mut self) {
        if let Some(port_forward) = &mut self.port_forward {
            port_forward.closed();
        }
    }

    /// Answers a segment that belongs to nothing (RFC 9293, section 3.10.7.1).
    fn refuse(&mut self, guest: SocketAddr, remote: SocketAddr, segment: &TcpRepr<'_>) {
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

    /// Lets a connection do something and draws the conclusions.
    fn with(&mut self, id: u64, act: impl FnOnce(&mut Connection, usize) -> Fate) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let before = connection.buffered();
        let room = limits::BUFFERS.saturating_sub(self.buffered);
        let fate = act(connection, room);
        self.buffered = self.buffered + connection.buffered() - before;
        match fate {
            Fate::Stays => {
                if connection.has_segment() && !connection.queued {
                    connection.queued = true;
                    self.sending.push_back(id);
                }
            }
            Fate::Done => {
                let last = connection.segment(self.offloads);
                self.remove(id);
                self.reply(last);
            }
            Fate::Reset => {
                let reset = connection.reset(self.offloads);
                self.abort(id);
                self.reply(Some(reset));
            }
            Fate::Gone => self.abort(id),
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
        if connection.is_inbound() {
            self.forget_caller();
        }
        Some(connection)
    }

    fn abort(&mut self, id: u64) {
        if let Some(connection) = self.remove(id) {
            connection.abort();
        }
    }

    fn udp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8], packet: &[u8]) {
        let Ok(datagram) = UdpPacket::new_checked(bytes) else {
            return;
        };
        let guest = SocketAddr::new(from, datagram.src_port());
        let remote = SocketAddr::new(to, datagram.dst_port());
        let (kind, host) = match destination(remote, &self.config) {
            Destination::Host(host) => (Kind::Udp, host),
            Destination::NameServer => (Kind::Question, resolver::server(self.failures)),
            Destination::Nobody => {
                // What is sent to groups is for nobody here, and not an error.
                if is_ours(to) {
                    self.reply(Some(icmp::unreachable(remote, guest, packet)));
                }
                return;
            }
        };
        let key = (PROTOCOL_UDP, guest, remote);
        if !self.send(key, kind, host, datagram.payload()) {
            self.reply(Some(icmp::unreachable(remote, guest, packet)));
        }
    }

    fn echo(&mut self, from: IpAddr, to: IpAddr, message: &[u8]) {
        let Some(identifier) = icmp::echo_request(message, to.is_ipv6()) else {
            return;
        };
        let guest = SocketAddr::new(from, identifier);
        let remote = SocketAddr::new(to, 0);
        if is_ours(to) {
            self.reply(Some(icmp::reply(remote, guest, message, identifier)));
        } else if let Destination::Host(_) = destination(SocketAddr::new(to, 1), &self.config) {
            // Where the host's user may not ping, neither may the guest.
            let protocol = if to.is_ipv6() { ICMPV6 } else { ICMP };
            self.send(
                (protocol, guest, remote),
                Kind::Echo(identifier),
                remote,
                message,
            );
        }
    }

    /// Sends a datagram through its association, which is made if there is none. False if
    /// nobody takes it.
    fn send(&mut self, key: Key, kind: Kind, host: SocketAddr, payload: &[u8]) -> bool {
        let known = self.keys.get(&key).copied();
        let id = match known {
            Some(id) => id,
            None => match self.associate(key, kind, host) {
                Ok(id) => id,
                Err(error) => {
                    log::debug!("nothing can be sent to {host}: {error}");
                    return false;
                }
            },
        };
        let Some(association) = self.associations.get_mut(&id) else {
            return false;
        };
        let sent = association.send(payload).is_ok();
        if !sent {
            self.failed(id);
        }
        sent
    }

    fn associate(&mut self, key: Key, kind: Kind, host: SocketAddr) -> io::Result<u64> {
        if self.associations.len() >= limits::ASSOCIATIONS {
            let oldest = self.associations.iter().min_by_key(|(_, a)| a.last_used);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.remove(id);
            }
        }
        let (_, guest, remote) = key;
        let association = Association::new(kind, guest, remote, host)?;
        let id = self.last + 1;
        let event = EpollEvent::new(EpollFlags::EPOLLIN, id);
        self.epoll.add(association.fd(), event)?;
        self.name(id, key);
        self.associations.insert(id, association);
        Ok(id)
    }

    /// Nobody listens at the other end of an association.
    fn failed(&mut self, id: u64) {
        let question = self
            .associations
            .get(&id)
            .is_some_and(Association::is_question);
        self.failures = self.failures.wrapping_add(usize::from(question));
        self.remove(id);
    }

    /// Does what has come up on the host's side.
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
            } else {
                self.receive(id);
            }
        }
        self.admit();
    }

    fn receive(&mut self, id: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(association) = self.associations.get_mut(&id) {
            match association.receive(&mut scratch) {
                Ok(Some(frame)) => self.reply(Some(frame)),
                Ok(None) => break,
                Err(error) => {
                    log::debug!("an association ends: {error}");
                    self.failed(id);
                }
            }
        }
        self.scratch = scratch;
    }

    fn tick(&mut self, now: Instant) {
        self.timer.seen();
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        for id in ids {
            self.with(id, |connection, _| connection.tick(now));
        }
        let expired =
            |(id, association): (&u64, &Association)| association.is_expired(now).then_some(*id);
        let ids: Vec<u64> = self.associations.iter().filter_map(expired).collect();
        for id in ids {
            self.remove(id);
        }
        if self.names.is_empty() {
            self.timer.stop();
        }
    }

    fn reply(&mut self, frame: Option<Frame>) {
        if let Some(frame) = frame.filter(|_| self.replies.len() < limits::REPLIES) {
            self.replies.push_back(frame);
        }
    }

    /// The next frame for the guest, if there is one.
    pub fn next_frame(&mut self) -> Option<Frame> {
        if let Some(frame) = self.replies.pop_front() {
            return Some(frame);
        }
        while let Some(id) = self.sending.pop_front() {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let frame = connection.segment(self.offloads);
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

    /// Pretends that the host reaches the IPv6 world.
    #[cfg(test)]
    pub(super) fn force_ipv6(&mut self) {
        self.ipv6 = Some(true);
    }

    /// Fewer connections.
    #[cfg(test)]
    pub(super) fn limit(&mut self, connections: usize) {
        self.most_connections = Some(connections);
    }

    /// How much is going on: connections, associations, and bytes that are buffered.
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
