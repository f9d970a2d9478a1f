//! One connection of a guest to an HTTP server.
//!
//! Requests are taken one after the other as far as they are plain GETs ([`conversation`]). What is kept
//! answers at once; the rest goes to the server, whose answers another thread reads ([`reader`]): what is
//! to be kept goes into a file that the guest is served from, so that a guest that does not read holds no
//! other one up. The first byte that is not understood makes it a tunnel ([`tunnel`]) for the rest of it.

mod answer;
mod conversation;
mod follow;
mod output;
mod progress;
mod reader;
mod tunnel;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use boxbuild_jail::Channel;
use socket2::SockRef;

use crate::message::Moved;
use crate::names::Names;
use crate::store::Store;
use conversation::Conversation;

/// Bytes that are moved at once.
const CHUNK: usize = 64 << 10;

/// What all connections have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) names: Names,
    pub(crate) counters: Counters,
    pub(crate) parent: Channel,
    /// To the network, which hands connections over.
    pub(crate) network: Channel,
}

impl Shared {
    /// Has the network reset a connection, whose stream is closed after that.
    pub(crate) fn reset(&self, id: u64) {
        // If there is no room, its end is taken for an orderly one.
        let _ = self.network.try_send(&id.to_le_bytes(), &[]);
    }
}

/// Bytes of bodies.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    from_cache: AtomicU64,
    from_network: AtomicU64,
}

impl Counters {
    pub(crate) fn cached(&self, bytes: usize) {
        self.from_cache.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn fetched(&self, bytes: usize) {
        self.from_network.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn moved(&self) -> Moved {
        Moved {
            from_cache: self.from_cache.load(Ordering::Relaxed),
            from_network: self.from_network.load(Ordering::Relaxed),
        }
    }
}

/// How a connection ends too early.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The guest is gone.
    Guest,
    /// The server is, or does not keep to the protocol: the guest sees a reset.
    Server,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Flow {
    id: u64,
    guest: UnixStream,
    server: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
}

impl Flow {
    /// `None` if the server is gone already.
    pub(crate) fn new(
        id: u64,
        guest: UnixStream,
        server: TcpStream,
        shared: Arc<Shared>,
    ) -> Option<Flow> {
        let peer = server.peer_addr().ok()?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        Some(Flow {
            id,
            guest,
            server,
            peer,
            shared,
        })
    }

    /// Serves it to its end.
    pub(crate) fn run(self) {
        let ended = Conversation::new(&self).and_then(Conversation::run);
        match ended {
            Ok(()) => {}
            Err(Broken::Guest) => {
                // It is closed in any case.
                let _ = SockRef::from(&self.server).set_linger(Some(Duration::ZERO));
            }
            Err(Broken::Server) => self.shared.reset(self.id),
        }
        // Its other thread has the socket as well.
        let _ = self.server.shutdown(std::net::Shutdown::Both);
    }
}

/// An error of reading from or writing to a side, as its end.
fn guest(_: io::Error) -> Broken {
    Broken::Guest
}

fn server(_: io::Error) -> Broken {
    Broken::Server
}
