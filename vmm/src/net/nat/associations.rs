//! UDP and ICMP echo of the NAT.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use smoltcp::wire::UdpPacket;

use super::{Key, Nat};
use crate::net::addresses::is_ours;
use crate::net::datagram::{Association, Kind};
use crate::net::egress::Destination;
use crate::net::packet::{ICMP, ICMPV6, PROTOCOL_UDP};
use crate::net::{icmp, limits};

impl Nat {
    pub(super) fn udp(&mut self, from: IpAddr, to: IpAddr, bytes: &[u8], packet: &[u8]) {
        let Ok(datagram) = UdpPacket::new_checked(bytes) else {
            return;
        };
        let guest = SocketAddr::new(from, datagram.src_port());
        let remote = SocketAddr::new(to, datagram.dst_port());
        let host = match self.egress.destination(remote) {
            Destination::Host(host) => host,
            Destination::NameServer => {
                let message = datagram.payload();
                let ends = (guest, remote);
                return self.with_relay(|relay, around| relay.question(ends, message, around));
            }
            Destination::Absent | Destination::Unreachable => {
                // What is sent to groups has no receiver here, and is not an error.
                if is_ours(to) {
                    self.reply(Some(icmp::unreachable(remote, guest, packet)));
                }
                return;
            }
        };
        let key = (PROTOCOL_UDP, guest, remote);
        if !self.send(key, Kind::Udp, host, datagram.payload()) {
            self.reply(Some(icmp::unreachable(remote, guest, packet)));
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

    /// Sends a datagram through its association, which is made if there is none. False if it cannot be
    /// sent.
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
        let association = self.associations.get_mut(&id);
        let sent = association.is_some_and(|association| association.send(payload).is_ok());
        if !sent {
            self.remove(id);
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

    /// Takes what has come for an association, but not without end: what is left is an event of the next
    /// round.
    pub(super) fn receive(&mut self, id: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for _ in 0..limits::BURST {
            let Some(association) = self.associations.get_mut(&id) else {
                break;
            };
            match association.receive(&mut scratch) {
                Ok(Some(payload)) => {
                    let frame = association.frame(payload);
                    self.reply(Some(frame));
                }
                Ok(None) => break,
                Err(error) => {
                    log::debug!("an association ends: {error}");
                    self.remove(id);
                }
            }
        }
        self.scratch = scratch;
    }
}
