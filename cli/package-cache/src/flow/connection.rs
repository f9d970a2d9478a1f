//! A connection, and what all connections have in common.

use std::collections::HashSet;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use boxbuild_jail::Channel;

use crate::message::{ABSENCES, FromCache, LONGEST_ADDRESS, Moved};
use crate::names::Names;
use crate::store::Store;

/// Bytes that are moved at once.
pub(super) const CHUNK: usize = 64 << 10;

/// What all connections have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) store: Arc<Store>,
    pub(crate) names: Names,
    pub(crate) counters: Counters,
    pub(crate) parent: Channel,
    /// To the network, which hands connections over.
    pub(crate) network: Channel,
    pub(crate) absences: Absences,
    /// Proxies of the user's: name or address, and port.
    pub(crate) proxies: Vec<String>,
}

/// Addresses that the parent was told to be missing.
#[derive(Debug, Default)]
pub(crate) struct Absences(Mutex<HashSet<String>>);

impl Shared {
    /// Tells the parent, once, that a file is not kept.
    pub(super) fn absent(&self, address: &str) {
        let address: String = address.chars().take(LONGEST_ADDRESS).collect();
        let mut told = self
            .absences
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if told.len() < ABSENCES && told.insert(address.clone()) {
            let message = serde_json::to_vec(&FromCache::Absent(address));
            if let Ok(message) = message {
                // An error means that the parent is gone, and this process with it.
                let _ = self.parent.send(&message, &[]);
            }
        }
    }

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
    pub(super) id: u64,
    pub(super) guest: UnixStream,
    pub(super) server: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) shared: Arc<Shared>,
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

    /// One to a server that is said to be `peer`, over any kind of stream.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn to(
        peer: SocketAddr,
        guest: UnixStream,
        server: std::os::fd::OwnedFd,
        shared: Arc<Shared>,
    ) -> Flow {
        Flow {
            id: 0,
            guest,
            server: server.into(),
            peer,
            shared,
        }
    }
}

/// An error of reading from or writing to a side, as its end.
pub(super) fn guest(_: io::Error) -> Broken {
    Broken::Guest
}

pub(super) fn server(_: io::Error) -> Broken {
    Broken::Server
}
