//! Files and pipes without names between QEMU and the lab.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

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

/// What the threads that read from the machine tell.
#[derive(Debug)]
pub(crate) enum Event {
    /// No one writes into a pipe any more, or its content cannot be passed on.
    Closed(io::Result<()>),
    /// How many bytes of standard output and standard error the agent has sent, all in all: where the
    /// machine cannot end itself when they are out.
    Sent([u64; 2]),
}

/// How many bytes have been passed on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Arrived(Arc<AtomicU64>);

impl Arrived {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Passes on everything from a pipe, and tells how that ended.
pub(crate) fn relay(
    mut from: io::PipeReader,
    to: &impl AsFd,
    arrived: &Arrived,
    events: Sender<Event>,
) -> Result<()> {
    // Without the buffer of `Stdout`: what the command prints is seen at once.
    let to: OwnedFd = to.as_fd().try_clone_to_owned()?;
    let mut to = File::from(to);
    let arrived = arrived.clone();
    thread::spawn(move || {
        let mut buffer = [0; 1 << 16];
        let result = loop {
            match from.read(&mut buffer) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    if let Err(error) = to.write_all(&buffer[..count]) {
                        break Err(error);
                    }
                    arrived.0.fetch_add(count as u64, Ordering::Release);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        // The lab may have ended first.
        let _ = events.send(Event::Closed(result));
    });
    Ok(())
}

/// Reads the agent's report, and tells when it says that it was the last of it.
pub(crate) fn listen(from: io::PipeReader, events: Sender<Event>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut report = String::new();
        let mut lines = io::BufReader::new(from);
        while let Ok(1..) = lines.read_line(&mut report) {
            if let Some(counts) = sent(&report) {
                let _ = events.send(Event::Sent(counts));
            }
        }
        report
    })
}

/// The numbers in a report's last line, if that is `sent OUT ERR`.
fn sent(report: &str) -> Option<[u64; 2]> {
    let line = report.strip_suffix('\n')?.lines().last()?;
    let (out, err) = line.strip_prefix("sent ")?.split_once(' ')?;
    Some([out.parse().ok()?, err.parse().ok()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_report_is_a_whole_line() {
        assert_eq!(sent("up 2.1\nexit 0\nsent 12 3\n"), Some([12, 3]));
        assert_eq!(sent("exit 0\nsent 12 3"), None);
        assert_eq!(sent("sent 1 2\nexit 0\n"), None);
    }
}
