//! What the thread that follows QEMU and its owner share.

use std::io;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Mutex, PoisonError};

use boxbuild_virtiofs::Traffic;

use crate::handle::Moved;

/// One side's ends of the connections between boxbuild and QEMU.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) console: UnixStream,
    pub(super) control: UnixStream,
    pub(super) monitor: UnixStream,
}

impl Streams {
    /// Our ends, and QEMU's.
    pub(super) fn pairs() -> io::Result<(Streams, Streams)> {
        let (console, console_end) = UnixStream::pair()?;
        let (control, control_end) = UnixStream::pair()?;
        let (monitor, monitor_end) = UnixStream::pair()?;
        let ours = Streams {
            console,
            control,
            monitor,
        };
        let theirs = Streams {
            console: console_end,
            control: control_end,
            monitor: monitor_end,
        };
        Ok((ours, theirs))
    }
}

/// What the thread that follows QEMU and its owner share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) process: Mutex<std::process::Child>,
    pub(super) monitor: UnixStream,
    pub(super) killed: AtomicBool,
    pub(super) peak_memory: AtomicU64,
    pub(super) disk: Mutex<Option<Moved>>,
    pub(super) shares: Vec<Traffic>,
}

impl Shared {
    pub(super) fn process(&self) -> std::sync::MutexGuard<'_, std::process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.process().try_wait().ok().flatten()
    }

    pub(super) fn exited(&self) -> bool {
        self.status().is_some()
    }
}
