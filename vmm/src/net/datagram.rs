//! UDP and ICMP echo: one connected socket of the host for each pair of guest and peer.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::kernel_buffers::KernelBuffers;
use super::packet::Frame;
use super::{icmp, packet};

/// An association ends after this time without a packet (RFC 4787 asks for two minutes and
/// allows less on well-known ports).
const IDLE: Duration = Duration::from_secs(120);
/// Largest datagram: what an IPv4 packet takes (RFC 768, RFC 791).
pub(super) const LARGEST: usize = 65507;

/// What an association carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Udp,
    /// Echo, with the guest's identifier.
    Echo(u16),
}

/// A pair of guest and peer, with its socket.
#[derive(Debug)]
pub(super) struct Association {
    socket: Socket,
    kind: Kind,
    guest: SocketAddr,
    remote: SocketAddr,
    pub(super) last_used: Instant,
}

impl Association {
    /// Associates the guest with what it knows as `remote`, and the host as `host`.
    pub(super) fn new(
        kind: Kind,
        guest: SocketAddr,
        remote: SocketAddr,
        host: SocketAddr,
    ) -> io::Result<Association> {
        let protocol = match (kind, host) {
            (Kind::Udp, _) => Protocol::UDP,
            (Kind::Echo(_), SocketAddr::V4(_)) => Protocol::ICMPV4,
            (Kind::Echo(_), SocketAddr::V6(_)) => Protocol::ICMPV6,
        };
        let socket = Socket::new(
            Domain::for_address(host),
            Type::DGRAM.nonblocking(),
            Some(protocol),
        )?;
        KernelBuffers::Small.set(&socket)?;
        socket.connect(&host.into())?;
        Ok(Association {
            socket,
            kind,
            guest,
            remote,
            last_used: Instant::now(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        now.duration_since(self.last_used) > IDLE
    }

    /// Sends a datagram of the guest. What the host has no room for is lost, as UDP may.
    ///
    /// # Errors
    /// If nothing listens there.
    pub(super) fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.last_used = Instant::now();
        match self.socket.write(payload) {
            Err(error) if !is_lost(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes the next datagram for the guest, if there is one.
    ///
    /// # Errors
    /// If nothing listens there.
    pub(super) fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match self.socket.read(buffer) {
            Ok(count) => {
                self.last_used = Instant::now();
                let payload = buffer.get(..count.min(LARGEST));
                Ok(Some(payload.unwrap_or_default()))
            }
            Err(error) if is_lost(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The frame that a datagram of the peer becomes.
    pub(super) fn frame(&self, payload: &[u8]) -> Frame {
        match self.kind {
            Kind::Udp => packet::udp(self.remote, self.guest, payload),
            Kind::Echo(identifier) => icmp::reply(self.remote, self.guest, payload, identifier),
        }
    }
}

/// Whether the error is not the peer's.
fn is_lost(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        || matches!(
            error.raw_os_error(),
            Some(libc::ENOBUFS | libc::EMSGSIZE | libc::EPERM)
        )
}
