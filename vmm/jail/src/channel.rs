//! Messages between a jailed process and its parent, with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};

/// Longest message in bytes. Well within the default size of a socket's buffer (212,992, of which
/// one message may take nearly all).
pub const MAX_MESSAGE: usize = 128 << 10;

/// Most descriptors of one message (`SCM_MAX_FD` of unix(7)).
pub const MAX_DESCRIPTORS: usize = 253;

/// One end of a connection that keeps messages apart (SOCK_SEQPACKET). Several threads may send.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message.
#[derive(Debug, Default)]
pub struct Message {
    /// Its bytes, never empty.
    pub bytes: Vec<u8>,
    /// Descriptors that came with it.
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// Returns the two ends of a new channel.
    ///
    /// # Errors
    /// If the host has no descriptor left.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (one, other) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        Ok((Channel(one), Channel(other)))
    }

    /// Sends a message; waits for room.
    ///
    /// # Errors
    /// If it is empty or too long, or the other end is gone.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(bytes, descriptors, MsgFlags::empty())
    }

    /// Sends a message if there is room for it. Returns whether there was.
    ///
    /// # Errors
    /// If it is empty or too long, or the other end is gone.
    pub fn try_send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<bool> {
        match self.send_with(bytes, descriptors, MsgFlags::MSG_DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn send_with(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: MsgFlags,
    ) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > MAX_MESSAGE || descriptors.len() > MAX_DESCRIPTORS {
            let text = format!(
                "a message of {} bytes and {} descriptors",
                bytes.len(),
                descriptors.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let control = if numbers.is_empty() { &[][..] } else { &rights };
        let parts = [IoSlice::new(bytes)];
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.0.as_raw_fd(), &parts, control, flags, None) {
                Err(Errno::EINTR) => {}
                // A message is sent whole or not at all.
                result => return Ok(result.map(|_| ())?),
            }
        }
    }

    /// Waits for a message; `None` once the other end is gone. Descriptors that come with it are
    /// dropped.
    ///
    /// # Errors
    /// `TimedOut` if there is none within `time`. Otherwise if the message is too long.
    pub fn receive(&self, time: Option<Duration>) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let len = self.receive_into(&mut bytes, time)?;
        bytes.truncate(len);
        Ok((len > 0).then_some(bytes))
    }

    /// Does the same with a buffer that is used again. Returns the length of the message, 0 once
    /// the other end is gone.
    ///
    /// # Errors
    /// See [`Channel::receive`].
    pub fn receive_into(&self, buffer: &mut [u8], time: Option<Duration>) -> io::Result<usize> {
        self.await_message(time)?;
        Ok(self.take(buffer, None, MsgFlags::empty())?.0)
    }

    /// Does the same without waiting: `WouldBlock` if there is no message.
    ///
    /// # Errors
    /// See [`Channel::receive`].
    pub fn try_receive_into(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.take(buffer, None, MsgFlags::MSG_DONTWAIT)?.0)
    }

    /// Waits for a message with up to [`MAX_DESCRIPTORS`] descriptors; `None` once the other end is
    /// gone.
    ///
    /// # Errors
    /// See [`Channel::receive`].
    pub fn receive_descriptors(&self, time: Option<Duration>) -> io::Result<Option<Message>> {
        self.await_message(time)?;
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let (len, descriptors) = self.take(&mut bytes, Some(&mut control), MsgFlags::empty())?;
        bytes.truncate(len);
        Ok((len > 0).then_some(Message { bytes, descriptors }))
    }

    fn await_message(&self, time: Option<Duration>) -> io::Result<()> {
        let Some(time) = time else { return Ok(()) };
        let deadline = Instant::now() + time;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a rest of less than a millisecond is not polled for 0 ms again and again.
            let left = left + Duration::from_micros(999);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            match poll(&mut polled, timeout) {
                Ok(0) if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(
        &self,
        bytes: &mut [u8],
        mut control: Option<&mut Vec<u8>>,
        flags: MsgFlags,
    ) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            let mut parts = [IoSliceMut::new(bytes)];
            let control = control.as_mut().map(|control| {
                control.resize(control.capacity(), 0);
                control.as_mut_slice()
            });
            let wanted = control.is_some();
            let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
            let received = match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, control, flags) {
                Ok(received) => received,
                Err(Errno::EINTR) => continue,
                // It is gone and has left something unread.
                Err(Errno::ECONNRESET) => return Ok((0, Vec::new())),
                Err(error) => return Err(error.into()),
            };
            let mut descriptors = Vec::new();
            if wanted {
                for message in received.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(numbers) = message {
                        // SAFETY: the kernel has just made these descriptors for us.
                        let owned = numbers
                            .iter()
                            .map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
                        descriptors.extend(owned);
                    }
                }
            }
            if received.flags.contains(MsgFlags::MSG_TRUNC) {
                let text = format!("a message of more than {} bytes", bytes.len());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            return Ok((received.bytes, descriptors));
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Channel {
        Channel(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_millis(20));

    #[test]
    fn messages_stay_apart_and_carry_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let zero = File::open("/dev/zero").unwrap();
        one.send(b"first", &[zero.as_fd()]).unwrap();
        one.send(&vec![7; MAX_MESSAGE], &[]).unwrap();
        let first = other.receive_descriptors(SOON).unwrap().unwrap();
        assert_eq!(first.bytes, b"first");
        let mut bytes = [1; 4];
        let file: File = first.descriptors.into_iter().next().unwrap().into();
        (&file).read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 4]);
        assert_eq!(other.receive(SOON).unwrap().unwrap().len(), MAX_MESSAGE);
        drop(one);
        assert!(other.receive(SOON).unwrap().is_none());
    }

    #[test]
    fn nothing_within_the_time_is_an_error() {
        let (_one, other) = Channel::pair().unwrap();
        let error = other.receive(SOON).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn descriptors_that_are_not_asked_for_are_closed() {
        let (one, other) = Channel::pair().unwrap();
        let (pipe, end) = nix::unistd::pipe().unwrap();
        one.send(b"bytes", &[end.as_fd()]).unwrap();
        drop(end);
        assert_eq!(other.receive(SOON).unwrap().unwrap(), b"bytes");
        // The end of the pipe is closed everywhere.
        assert_eq!(File::from(pipe).read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_full_channel_blocks_only_a_send_that_waits() {
        let (one, _other) = Channel::pair().unwrap();
        let mut sent = 0;
        while one.try_send(&[1; 1 << 10], &[]).unwrap() {
            sent += 1;
            assert!(sent < 10_000);
        }
        assert!(one.send(&[], &[]).is_err());
        assert!(one.send(&vec![0; MAX_MESSAGE + 1], &[]).is_err());
    }
}
