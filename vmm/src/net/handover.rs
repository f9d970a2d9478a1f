//! Connections that another process continues ([`Handover`]).

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

use boxbuild_jail::Channel;
use socket2::{Domain, Socket, Type};

use super::config::Handover;
use super::limits;

/// Bytes of a connection's number.
const NUMBER: usize = size_of::<u64>();

/// The way to the other process.
#[derive(Debug)]
pub(super) struct HandoverState {
    /// `None` once the process is gone.
    channel: Option<Channel>,
    ports: Vec<u16>,
    /// Connections that it continues, and whether it has told of their reset.
    open: HashSet<u64>,
    reset: HashSet<u64>,
}

impl HandoverState {
    pub(super) fn new(handover: Handover) -> HandoverState {
        HandoverState {
            channel: Some(handover.channel),
            ports: handover.ports,
            open: HashSet::new(),
            reset: HashSet::new(),
        }
    }

    /// Whether connections to this port are handed over now.
    pub(super) fn is_for(&self, port: u16) -> bool {
        self.channel.is_some()
            && self.open.len() < limits::HANDED_OVER
            && self.ports.contains(&port)
    }

    /// Offers a connected socket, or a connection that has none. Returns the stream that takes its place
    /// here; `None` if the process does not take it.
    pub(super) fn offer(&mut self, id: u64, socket: Option<BorrowedFd<'_>>) -> Option<Socket> {
        let channel = self.channel.as_ref()?;
        let sent = stream().and_then(|(ours, theirs)| {
            let descriptors: Vec<_> = socket.into_iter().chain([theirs.as_fd()]).collect();
            let taken = channel.try_send(&id.to_le_bytes(), &descriptors)?;
            Ok(taken.then_some(ours))
        });
        match sent {
            Ok(Some(ours)) => {
                self.open.insert(id);
                Some(ours)
            }
            Ok(None) => None,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                log::debug!("the process that continues connections is gone");
                self.channel = None;
                None
            }
            Err(error) => {
                log::debug!("a connection cannot be handed over: {error}");
                None
            }
        }
    }

    /// Whether the other process has said that this one, whose stream has ended, is to be reset.
    pub(super) fn is_reset(&mut self, id: u64) -> bool {
        let Some(channel) = &self.channel else {
            return false;
        };
        let mut message = [0; NUMBER];
        while let Ok(NUMBER) = channel.try_receive_into(&mut message) {
            let number = u64::from_le_bytes(message);
            if self.open.contains(&number) {
                self.reset.insert(number);
            }
        }
        self.reset.contains(&id)
    }

    /// Notes that a connection is gone.
    pub(super) fn closed(&mut self, id: u64) {
        self.open.remove(&id);
        self.reset.remove(&id);
    }
}

/// The two ends of a stream.
fn stream() -> io::Result<(Socket, Socket)> {
    let (ours, theirs) = Socket::pair(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    for end in [&ours, &theirs] {
        end.set_send_buffer_size(limits::HANDOVER_BUFFER)?;
    }
    Ok((ours, theirs))
}
