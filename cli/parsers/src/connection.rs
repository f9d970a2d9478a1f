//! The child's way to its parent.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use boxbuild_jail::Channel;

use crate::job::Message;

/// The way to the parent, and what it sent.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    files: std::vec::IntoIter<OwnedFd>,
}

impl Connection {
    pub(crate) fn new(channel: Channel, files: Vec<OwnedFd>) -> Connection {
        Connection {
            channel,
            files: files.into_iter(),
        }
    }

    /// Returns the next of the parent's files.
    pub(crate) fn file(&mut self) -> io::Result<File> {
        let missing = || io::Error::other("the parent has sent too few files");
        self.files.next().map(File::from).ok_or_else(missing)
    }

    /// Says how much is going to be written, and waits for the parent to agree.
    pub(crate) fn announce(&self, size: u64) -> io::Result<()> {
        self.ask(&Message::Size(size)).map(drop)
    }

    /// Gets a file of an OCI layout.
    pub(crate) fn want(&self, name: &str) -> io::Result<File> {
        let file = self.ask(&Message::Want(name.to_owned()))?;
        file.map(File::from)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such file"))
    }

    fn ask(&self, message: &Message<()>) -> io::Result<Option<OwnedFd>> {
        self.send(&serde_json::to_vec(message)?)?;
        let gone = || io::Error::other("the parent is gone");
        let answer = self.channel.receive_descriptors(None)?.ok_or_else(gone)?;
        Ok(answer.descriptors.into_iter().next())
    }

    /// Sends a message.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.channel.send(bytes, &[])
    }
}
