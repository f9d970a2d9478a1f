//! Sockets for questions to the host's name servers.
//!
//! A question has a socket, and with it a port, of its own while there are few, so that a forged answer
//! has to guess both; many share.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use super::asker::Asker;
use crate::net::kernel_buffers::KernelBuffers;
use crate::net::limits;

/// Tokens of these sockets have this bit, and no others.
const TOKEN: u64 = 1 << 63;

/// The sockets.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    sockets: HashMap<u64, Peer>,
    last: u64,
}

/// A socket, connected to one server.
#[derive(Debug)]
struct Peer {
    socket: Socket,
    server: SocketAddr,
    /// Who asked, by our id of the question.
    asked: HashMap<u16, Asker>,
}

/// A question on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) socket: u64,
    pub(super) id: u16,
}

/// What comes of reading a socket.
#[derive(Debug)]
pub(super) enum Received {
    /// A message, of so many bytes.
    Message(usize),
    /// No more for now.
    Nothing,
    /// Nothing listens at the server: the socket is gone, with what these have asked.
    Failed(SocketAddr, Vec<Asker>),
}

impl Upstream {
    /// Whether an event of `token` is one of these sockets'.
    pub(super) fn owns(token: u64) -> bool {
        token & TOKEN != 0
    }

    /// Sends `message`, whose id becomes ours, for `asker`.
    ///
    /// # Errors
    /// If it cannot be sent: no route, nothing listens, no descriptor left.
    pub(super) fn send(
        &mut self,
        epoll: &Epoll,
        server: SocketAddr,
        asker: Asker,
        message: &mut [u8],
    ) -> io::Result<Sent> {
        let token = self.socket(epoll, server)?;
        let peer = self.sockets.get_mut(&token).ok_or(ErrorKind::NotFound)?;
        let id = loop {
            let mut id = [0; 2];
            crate::random(&mut id)?;
            let id = u16::from_ne_bytes(id);
            if !peer.asked.contains_key(&id) {
                break id;
            }
        };
        let place = message.get_mut(..2).ok_or(ErrorKind::InvalidInput)?;
        place.copy_from_slice(&id.to_be_bytes());
        match peer.socket.write(message) {
            // What the host has no room for is lost, as UDP may, and sent again.
            Err(error)
                if error.kind() != ErrorKind::WouldBlock
                    && error.raw_os_error() != Some(libc::ENOBUFS) =>
            {
                // It may be the answer to an earlier one; that one is sent again as well.
                if peer.asked.is_empty() {
                    self.sockets.remove(&token);
                }
                return Err(error);
            }
            _ => {}
        }
        peer.asked.insert(id, asker);
        Ok(Sent { socket: token, id })
    }

    /// Returns the socket for a new question: a new one, or the least used.
    fn socket(&mut self, epoll: &Epoll, server: SocketAddr) -> io::Result<u64> {
        let own = || {
            self.sockets
                .iter()
                .filter(|(_, peer)| peer.server == server)
        };
        let least = own().min_by_key(|(_, peer)| peer.asked.len());
        if let Some((token, _)) = least.filter(|_| own().count() >= limits::SERVER_SOCKETS) {
            return Ok(*token);
        }
        if self.sockets.len() >= limits::SERVERS * limits::SERVER_SOCKETS {
            // Servers of another network, whose answers are still waited for.
            return Err(ErrorKind::ResourceBusy.into());
        }
        let kind = Type::DGRAM.nonblocking();
        let socket = Socket::new(Domain::for_address(server), kind, Some(Protocol::UDP))?;
        KernelBuffers::Small.set(&socket)?;
        socket.connect(&server.into())?;
        self.last += 1;
        let token = self.last | TOKEN;
        epoll.add(socket.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        let asked = HashMap::new();
        let peer = Peer {
            socket,
            server,
            asked,
        };
        self.sockets.insert(token, peer);
        Ok(token)
    }

    /// Takes the next message of a socket into `buffer`.
    pub(super) fn receive(&mut self, token: u64, buffer: &mut [u8]) -> Received {
        let Some(peer) = self.sockets.get_mut(&token) else {
            return Received::Nothing;
        };
        match peer.socket.read(buffer) {
            Ok(count) => Received::Message(count),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                Received::Nothing
            }
            Err(error) => {
                log::debug!("the name server {}: {error}", peer.server);
                let server = peer.server;
                let peer = self.sockets.remove(&token);
                let askers = peer.map(|peer| peer.asked.into_values().collect());
                Received::Failed(server, askers.unwrap_or_default())
            }
        }
    }

    /// Returns who has asked the question of this id through this socket, and which server.
    pub(super) fn asker(&self, sent: Sent) -> Option<(Asker, SocketAddr)> {
        let peer = self.sockets.get(&sent.socket)?;
        Some((*peer.asked.get(&sent.id)?, peer.server))
    }

    /// Returns the server of a socket.
    pub(super) fn server(&self, socket: u64) -> Option<SocketAddr> {
        self.sockets.get(&socket).map(|peer| peer.server)
    }

    /// Forgets a question. A socket without one is closed.
    pub(super) fn forget(&mut self, sent: Sent) {
        if let Some(peer) = self.sockets.get_mut(&sent.socket) {
            peer.asked.remove(&sent.id);
            if peer.asked.is_empty() {
                self.sockets.remove(&sent.socket);
            }
        }
    }

    /// Returns the number of sockets.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }
}
