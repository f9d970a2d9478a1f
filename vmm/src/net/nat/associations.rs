//! UDP and ICMP echo of the NAT.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use smoltcp::wire::UdpPacket;

use super::{Key, Nat};
use crate::net::addresses::is_ours;
use crate::net::datagram::{Association, Kind};
use crate::net::egress::Destination;
use crate::net::names::Asked;
use crate::net::packet::{self, ICMP, ICMPV6, PROTOCOL_UDP};
use crate::net::{icmp, limits};

impl Nat {
    pub(super) fn udp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8], packet: &[u8]) {
        let Ok(datagram) = UdpPacket::new_checked(bytes) else {
            return;
        };
        let guest = SocketAddr::new(from, datagram.src_port());
        let remote = SocketAddr::new(to, datagram.dst_port());
        let (kind, host) = match self.egress.destination(remote) {
            Destination::Host(host) => (Kind::Udp, host),
            Destination::NameServer if self.egress.names.is_some() => {
                return self.question(guest, remote, datagram.payload(), packet);
            }
            Destination::NameServer => (Kind::Question, self.name_server()),
            Destination::Unreachable => {
                // What is sent to groups has no receiver here, and is not an error.
                if is_ours(to) {
                    self.reply(Some(icmp::unreachable(remote, guest, packet)));
                }
                return;
            }
        };
        let key = (PROTOCOL_UDP, guest, remote);
        if self.send(key, kind, host, datagram.payload()).is_none() {
            self.reply(Some(icmp::unreachable(remote, guest, packet)));
        }
    }

    /// Returns the name server of the host for the next question.
    pub(super) fn name_server(&self) -> SocketAddr {
        #[cfg(test)]
        if let Some(server) = self.name_server {
            return server;
        }
        self.host.name_server(self.failures)
    }

    /// Handles a question of a hermetic network.
    fn question(&mut self, guest: SocketAddr, remote: SocketAddr, message: &[u8], packet: &[u8]) {
        let asked = self.egress.names.as_ref().map(|names| names.ask(message));
        match asked {
            Some(Ok(Asked::Answered(answer))) => {
                self.reply(Some(packet::udp(remote, guest, &answer)));
            }
            Some(Ok(Asked::Forwarded(question, message))) => {
                let key = (PROTOCOL_UDP, guest, remote);
                let host = self.name_server();
                match self.send(key, Kind::Question, host, &message) {
                    Some(id) => {
                        if let Some(names) = &mut self.egress.names {
                            names.asked(id, question);
                        }
                    }
                    None => self.reply(Some(icmp::unreachable(remote, guest, packet))),
                }
            }
            Some(Ok(Asked::Ignored) | Err(_)) | None => {}
        }
    }

    pub(super) fn echo(&mut self, from: IpAddr, to: IpAddr, message: &[u8]) {
        let Some(identifier) = icmp::echo_request(message, to.is_ipv6()) else {
            return;
        };
        let guest = SocketAddr::new(from, identifier);
        let remote = SocketAddr::new(to, 0);
        if is_ours(to) {
            self.reply(Some(icmp::reply(remote, guest, message, identifier)));
        } else if self.egress.may_ping(to) {
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

    /// Sends a datagram through its association, which is made if there is none, and returns that.
    /// `None` if it cannot be sent.
    pub(super) fn send(
        &mut self,
        key: Key,
        kind: Kind,
        host: SocketAddr,
        payload: &[u8],
    ) -> Option<u64> {
        let known = self.keys.get(&key).copied();
        let id = match known {
            Some(id) => id,
            None => match self.associate(key, kind, host) {
                Ok(id) => id,
                Err(error) => {
                    log::debug!("nothing can be sent to {host}: {error}");
                    self.count_failure(kind == Kind::Question);
                    return None;
                }
            },
        };
        if self.associations.get_mut(&id)?.send(payload).is_err() {
            self.failed(id);
            return None;
        }
        Some(id)
    }

    pub(super) fn associate(&mut self, key: Key, kind: Kind, host: SocketAddr) -> io::Result<u64> {
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

    /// Removes an association at whose other end nothing listens.
    pub(super) fn failed(&mut self, id: u64) {
        let question = self
            .associations
            .get(&id)
            .is_some_and(Association::is_question);
        self.count_failure(question);
        self.remove(id);
    }

    /// Has the next question go to another name server if this one was not sent or not answered.
    fn count_failure(&mut self, question: bool) {
        self.failures = self.failures.wrapping_add(usize::from(question));
    }

    /// Takes what has come for an association, but not without end: what is left is an event of the next
    /// round.
    pub(super) fn receive(&mut self, id: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for _ in 0..limits::BURST {
            let Some(association) = self.associations.get_mut(&id) else {
                break;
            };
            let question = association.is_question() && self.egress.names.is_some();
            match association.receive(&mut scratch) {
                Ok(Some(payload)) if question => {
                    let answer = self.egress.answered(id, payload);
                    let frame = answer.map(|answer| association.frame(&answer));
                    self.reply(frame);
                }
                Ok(Some(payload)) => {
                    let frame = association.frame(payload);
                    self.reply(Some(frame));
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!("an association ends: {error}");
                    self.failed(id);
                }
            }
        }
        self.scratch = scratch;
    }
}
