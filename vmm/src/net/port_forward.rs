//! Connections into the guest: one port of the host leads to one port of the guest.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::Socket;

use super::addresses::{GATEWAY, GUEST};
use super::config::Forward;
use super::limits;

/// Ports that callers have for the guest (RFC 6335, section 6: the dynamic ports).
const PORTS: RangeInclusive<u16> = 49152..=65535;

/// The listener and its connections.
#[derive(Debug)]
pub(super) struct PortForward {
    listener: TcpListener,
    guest: SocketAddr,
    /// Open connections of this listener.
    open: usize,
    /// A caller may be in the listener's backlog: edge-triggered.
    ready: bool,
    last_port: u16,
}

impl PortForward {
    /// # Errors
    /// If the listener cannot be made non-blocking.
    pub(super) fn new(forward: Forward) -> io::Result<PortForward> {
        forward.listener.set_nonblocking(true)?;
        Ok(PortForward {
            listener: forward.listener,
            guest: SocketAddr::from((GUEST, forward.port)),
            open: 0,
            ready: false,
            last_port: *PORTS.end(),
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Returns where callers are connected to.
    pub(super) fn guest(&self) -> SocketAddr {
        self.guest
    }

    /// Notes an event of the listener.
    pub(super) fn knock(&mut self) {
        self.ready = true;
    }

    /// Accepts the next caller, if there is one and room for it. It counts as open from then on.
    pub(super) fn next(&mut self) -> Option<Socket> {
        while self.ready && self.open < limits::INBOUND {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // Without, it would only be slower; but nothing here may wait.
                    let _ = stream.set_nodelay(true);
                    // By ioctl(2), as the standard library does it: the filter of the network's
                    // thread has no fcntl(2), which socket2 takes.
                    if stream.set_nonblocking(true).is_ok() {
                        self.open += 1;
                        return Some(Socket::from(stream));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready = false,
                // It was gone before it was taken (accept(2)).
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    // No file or no memory: it stays in the backlog until the next event.
                    log::debug!("a connection into the guest cannot be taken: {error}");
                    return None;
                }
            }
        }
        None
    }

    /// Whether a caller may wait for a place.
    pub(super) fn is_full(&self) -> bool {
        self.ready && self.open >= limits::INBOUND
    }

    /// Notes that one of the connections is closed.
    pub(super) fn closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// The caller as the guest sees it: the gateway, under a port that is not `taken`.
    pub(super) fn caller(&mut self, taken: impl Fn(SocketAddr) -> bool) -> Option<SocketAddr> {
        // Each candidate can be taken by one connection only, of all that there may be.
        for _ in 0..=limits::CONNECTIONS {
            self.last_port = match self.last_port.checked_add(1) {
                Some(port) => port,
                None => *PORTS.start(),
            };
            let caller = SocketAddr::from((GATEWAY, self.last_port));
            if !taken(caller) {
                return Some(caller);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn callers_have_ports_that_are_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut port_forward = PortForward::new(Forward { listener, port: 22 }).unwrap();
        let mut port = |taken: &[u16]| {
            let caller = port_forward.caller(|caller| taken.contains(&caller.port()));
            caller.map(|caller| caller.port())
        };
        assert_eq!(port(&[]), Some(49152));
        assert_eq!(port(&[49153, 49154]), Some(49155));
        for _ in 49156..=u16::MAX {
            assert!(port(&[]).is_some());
        }
        assert_eq!(port(&[]), Some(49152));
        assert_eq!(port_forward.caller(|_| true), None);
    }
}
