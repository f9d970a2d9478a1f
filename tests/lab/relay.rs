//! Files and pipes without names between QEMU and the lab.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// A path by which a child process opens a descriptor that it inherits.
pub(crate) fn inherited_path(descriptor: impl AsFd) -> Result<String> {
    let descriptor = descriptor.as_fd();
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(format!("/dev/fd/{}", descriptor.as_raw_fd()))
}

/// A file without a name: when the lab ends, it is gone.
#[derive(Debug)]
pub(crate) struct Unnamed(File);

impl Unnamed {
    pub(crate) fn new() -> Result<Unnamed> {
        let file = tempfile::tempfile().context("cannot make a temporary file")?;
        Ok(Unnamed(file))
    }

    pub(crate) fn path(&self) -> Result<String> {
        inherited_path(&self.0)
    }

    /// Opened once more, to write behind what others have written.
    pub(crate) fn appending(&self) -> Result<File> {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        Ok(OpenOptions::new().append(true).open(path)?)
    }

    pub(crate) fn as_file(&mut self) -> &mut File {
        &mut self.0
    }

    /// All of it, from its start.
    pub(crate) fn text(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        self.0.rewind()?;
        self.0.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The file, to be read from its start.
    pub(crate) fn into_start(mut self) -> Result<File> {
        self.0.rewind()?;
        Ok(self.0)
    }
}

/// Passes on everything from a pipe, and sends how that ended: when no one writes any more, or
/// something cannot be written.
pub(crate) fn relay(
    mut from: io::PipeReader,
    to: &impl AsFd,
    ended: Sender<io::Result<()>>,
) -> Result<()> {
    // Without the buffer of `Stdout`: what the command prints is seen at once.
    let to: OwnedFd = to.as_fd().try_clone_to_owned()?;
    let mut to = File::from(to);
    thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        let result = loop {
            match from.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    if let Err(error) = to.write_all(&buffer[..count]) {
                        break Err(error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        // The lab may have ended first.
        let _ = ended.send(result);
    });
    Ok(())
}
