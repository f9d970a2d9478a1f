//! The handle of a running machine or container.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxbuild_host::startup::Step;
use boxbuild_protocol::host_message::HostMessage;
use boxbuild_virtiofs::Traffic;
use serde::{Deserialize, Serialize};

/// The line on the control port that tells the guest of its terminal (docs/guest-contract.md).
pub fn size_line(columns: u16, rows: u16) -> String {
    format!("{}\n", HostMessage::TerminalSize { columns, rows })
}

/// The line on the control port that tells the guest the host's time, since the epoch.
pub(crate) fn time_line(time: Duration) -> String {
    format!("{}\n", HostMessage::Time(time))
}

/// The line on the control port that answers a guest that wants a checkpoint.
pub(crate) fn checkpoint_line(kept: bool) -> String {
    format!("{}\n", HostMessage::Checkpoint { kept })
}

/// What a machine uses. `None` is what the engine cannot know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory of the engine's process now, the guest's included, in bytes.
    pub memory: Option<u64>,
    /// Processor time of the engine's process so far.
    pub processor: Option<Duration>,
    /// Bytes that went through the root disk so far.
    pub disk: Option<Moved>,
    /// Bytes of files in shares.
    pub shares: Option<Moved>,
    /// Bytes of frames of the network.
    pub network: Option<Moved>,
}

/// When a machine's process and its guest began.
#[derive(Debug, Clone)]
pub struct StartTimes {
    /// What the process did before the guest ran.
    pub steps: Vec<(Step, Instant)>,
    /// When the first CPU was given to the guest.
    pub first_instruction: Instant,
}

/// Bytes that a guest has moved so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Read, received.
    pub to_guest: u64,
    /// Written, sent.
    pub from_guest: u64,
}

impl Moved {
    /// Returns the sum over several devices, or `None` without a device.
    pub fn sum<'a>(traffic: impl IntoIterator<Item = &'a Traffic>) -> Option<Moved> {
        traffic.into_iter().fold(None, |sum, traffic| {
            let sum = sum.unwrap_or_default();
            Some(Moved {
                to_guest: sum.to_guest + traffic.to_guest(),
                from_guest: sum.from_guest + traffic.from_guest(),
            })
        })
    }
}

/// The console of a guest, and the way to tell it of the terminal behind it.
pub trait Console: Send + Sync + std::fmt::Debug {
    /// Types `bytes`. Input beyond the guest's buffer is dropped, as on any terminal.
    fn send(&self, bytes: &[u8]);

    /// The terminal has this many columns and rows now. Guests that do not follow the control
    /// port do not learn of it.
    fn resize(&self, columns: u16, rows: u16);

    /// The host's time is this now, since the epoch. Guests that do not follow the control port do
    /// not learn of it.
    fn tell_time(&self, time: Duration);

    /// Answers a guest that has asked for a checkpoint of its disk: whether there is one.
    fn answer_checkpoint(&self, kept: bool);
}

/// A machine that runs. Dropping it kills it and cleans up.
pub trait Running: std::fmt::Debug {
    /// Ends the machine now: its process gets `grace` for an orderly end, then SIGKILL. It may be
    /// called again with less. [`Event::Ended`] is sent when nothing of it runs any more, which may
    /// be after this returns.
    fn kill(&mut self, grace: Duration);

    /// Highest resident memory of the engine in bytes so far, if known.
    fn peak_memory(&self) -> Option<u64>;

    /// A handle for the guest's console, if it can be typed on.
    fn console(&self) -> Option<Arc<dyn Console>>;

    /// Once the machine is gone: gives what it wrote to its private disk names in `folder`,
    /// which is on the file system of [`RootDisk::Private::scratch`]. Returns the bytes that it
    /// takes there; `None` if there is nothing that could be kept.
    ///
    /// # Errors
    /// Fails if the host does not allow it. Some files may be in the folder then.
    fn keep_disk(&self, folder: &Path) -> io::Result<Option<u64>>;

    /// Takes a checkpoint of the private disk, whose file system the guest has frozen: what the guest has
    /// written up to here can be had by [`keep_checkpoint`](Self::keep_checkpoint), and what it writes
    /// from now on by [`keep_disk`](Self::keep_disk). Returns whether there is such a disk.
    ///
    /// # Errors
    /// Fails if the host does not allow it. The machine goes on as before; if it did not answer in time, no disk
    /// is kept of it any more.
    fn checkpoint(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Like [`keep_disk`](Self::keep_disk), for the checkpoint.
    ///
    /// # Errors
    /// Fails if the host does not allow it. Some files may be in the folder then.
    fn keep_checkpoint(&self, _folder: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    /// When the machine's process and its guest began, if the engine knows.
    fn start_times(&self) -> Option<StartTimes> {
        None
    }

    /// What the machine uses now and has used so far, as far as the engine knows.
    fn usage(&self) -> Usage {
        Usage::default()
    }
}
