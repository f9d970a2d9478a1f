//! The NAT: frames from the guest, frames to the guest.

mod associations;
mod connections;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Ipv4Packet, Ipv6Packet, UdpPacket};

use super::addresses::{GATEWAY, PREFIX_6, is_ours};
use super::config::{NetworkConfig, Offloads};
use super::datagram::Association;
use super::egress::Egress;
use super::error::NetworkError;
use super::host_network::CurrentNetwork;
#[cfg(test)]
use super::host_network::HostNetwork;
#[cfg(test)]
use super::names::Names;
use super::packet::{self, Frame, ICMP, ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP};
use super::port_forward::PortForward;
use super::tcp::Connection;
use super::timer::Timer;
use super::{dhcp, limits, neighbour};

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
    /// Questions that could not be sent to a name server.
    failures: usize,
    /// Answers in place of the host's name servers.
    #[cfg(test)]
    name_server: Option<SocketAddr>,
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
            failures: 0,
            #[cfg(test)]
            name_server: None,
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
            && let Some(reply) = neighbour::ndp(from, payload, self.host.has_ipv6())
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

    fn transport(&mut self, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8], packet: &[u8]) {
        match protocol {
            PROTOCOL_TCP => self.tcp(from, to, payload),
            PROTOCOL_UDP => self.udp(from, to, payload, packet),
            ICMP | ICMPV6 => self.echo(from, to, payload),
            _ => {}
        }
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
            } else {
                self.receive(id);
            }
        }
        self.admit();
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
        if self.associations.remove(&id).is_some()
            && let Some(names) = &mut self.egress.names
        {
            names.closed(id);
        }
        let connection = self.connections.remove(&id)?;
        self.buffered -= connection.buffered();
        self.tuned -= usize::from(connection.is_tuned());
        if connection.queued {
            // The guest may never take what would clear it away.
            self.sending.retain(|sending| *sending != id);
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
        self.host.set(HostNetwork {
            ipv6: true,
            ..HostNetwork::default()
        });
    }

    /// Sets another limit of connections.
    #[cfg(test)]
    pub(super) fn limit(&mut self, connections: usize) {
        self.most_connections = connections;
    }

    /// Asks `server` in place of the host's name servers.
    #[cfg(test)]
    pub(super) fn ask_at(&mut self, server: SocketAddr) {
        self.name_server = Some(server);
    }

    /// Returns how many addresses are known of names, and how many questions wait.
    #[cfg(test)]
    pub(super) fn names_load(&self) -> (usize, usize) {
        self.egress.names.as_ref().map_or((0, 0), Names::load)
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
