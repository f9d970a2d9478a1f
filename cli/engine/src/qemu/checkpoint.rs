//! A checkpoint of the disk: from then on, QEMU writes into one more image over the one that it has written
//! so far.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde_json::{Value, json};

use super::argv::{CHECKPOINT_SET, checkpoint_nodes};
use super::monitor::Monitor;
use super::overlay::Maker;

/// How long QEMU may take for each step. It writes out its tables in the last one.
const STEP: Duration = Duration::from_secs(10);

/// The private images of a disk.
#[derive(Debug)]
pub(super) struct Changes {
    /// The one that QEMU writes, or wrote when it ended.
    pub(super) top: File,
    /// The file descriptor set of `top`.
    set: usize,
    maker: Maker,
    /// The one that it wrote up to the checkpoint.
    pub(super) checkpoint: Option<File>,
}

impl Changes {
    /// The image in the file descriptor set `set`, before any checkpoint.
    pub(super) fn new(top: File, set: usize, maker: Maker) -> Changes {
        Changes {
            top,
            set,
            maker,
            checkpoint: None,
        }
    }

    /// Takes a checkpoint. `answers` are those to what `monitor` is asked.
    ///
    /// # Errors
    /// Fails if there is no room, or QEMU refuses: it goes on as before then. If it does not answer in time, it
    /// may or may not.
    pub(super) fn checkpoint(
        &mut self,
        monitor: &UnixStream,
        answers: &Receiver<Result<(), String>>,
    ) -> io::Result<()> {
        if self.checkpoint.is_some() {
            return Err(io::Error::other("there is one already"));
        }
        let next = self.maker.make()?;
        // QEMU opens what it only reads from now on for reading: a set has a descriptor for each way.
        let path = format!("/proc/self/fd/{}", self.top.as_raw_fd());
        let reading = File::open(path)?;
        add(monitor, self.set, reading.as_raw_fd(), answers)?;
        add(monitor, CHECKPOINT_SET as usize, next.as_raw_fd(), answers)?;
        for command in checkpoint_nodes() {
            ask(monitor, command, None, answers)?;
        }
        self.checkpoint = Some(std::mem::replace(&mut self.top, next));
        Ok(())
    }
}

fn add(
    monitor: &UnixStream,
    set: usize,
    descriptor: RawFd,
    answers: &Receiver<Result<(), String>>,
) -> io::Result<()> {
    let command = json!({"execute": "add-fd", "arguments": {"fdset-id": set}});
    ask(monitor, command, Some(descriptor), answers)
}

/// Has QEMU do something.
fn ask(
    monitor: &UnixStream,
    mut command: Value,
    descriptor: Option<RawFd>,
    answers: &Receiver<Result<(), String>>,
) -> io::Result<()> {
    command["id"] = json!(Monitor::STEP);
    let line = format!("{command}\n");
    let descriptors = descriptor.as_slice();
    let control = [ControlMessage::ScmRights(descriptors)];
    let control: &[_] = if descriptors.is_empty() {
        &[]
    } else {
        &control
    };
    // A QEMU that does not read must not hold this one up.
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let sent = sendmsg::<()>(
        monitor.as_raw_fd(),
        &[IoSlice::new(line.as_bytes())],
        control,
        flags,
        None,
    )?;
    if sent != line.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    match answers.recv_timeout(STEP) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(text)) => Err(io::Error::other(format!("QEMU: {text}"))),
        Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("QEMU is gone")),
    }
}
