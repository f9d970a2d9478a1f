//! The handle of a machine in its process.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boxbuild_vmm::disk::{keep_changes, tmpfile};
use boxbuild_vmm::virtio::console::Port;

use super::shared::Shared;
use super::wire::{self, Wish};
use crate::channel::EventGate;
use crate::handle::{Console, Running, StartTimes, Usage, checkpoint_line, size_line, time_line};
use crate::usage;

/// Time to write the map of a disk's changes: 4 KiB for each 128 MiB of it.
const MAP: Duration = Duration::from_secs(30);

/// Time for the process to take a message: it reads whenever its guest does not keep it busy.
const ROOM: Duration = Duration::from_secs(2);

/// A machine in a process of its own.
#[derive(Debug)]
pub(super) struct MachineProcess {
    pub(super) shared: Arc<Shared>,
    /// `None` once the channel of events is abandoned.
    pub(super) gate: Option<EventGate>,
    pub(super) follower: Option<JoinHandle<()>>,
    /// The files with the changes of its disk.
    pub(super) changes: Option<Changes>,
    /// Answers to [`Wish::WriteMap`] and [`Wish::Checkpoint`].
    pub(super) maps: Mutex<Receiver<Result<(), String>>>,
    /// When it began.
    pub(super) times: Option<StartTimes>,
}

/// The private files of a disk.
#[derive(Debug)]
pub(super) struct Changes {
    /// Takes what is written.
    top: File,
    /// Folder with room for more.
    scratch: PathBuf,
    /// What had been written at the checkpoint, and the map of that.
    checkpoint: Option<(File, File)>,
    /// The machine has not answered in time: it may write into another file than `top` by now, or later.
    unanswered: bool,
}

impl Changes {
    pub(super) fn new(top: File, scratch: &Path) -> Changes {
        Changes {
            top,
            scratch: scratch.to_owned(),
            checkpoint: None,
            unanswered: false,
        }
    }

    /// The file that takes what is written.
    fn top(&self) -> io::Result<&File> {
        if self.unanswered {
            return Err(io::Error::other(
                "the machine has not said whether it took a checkpoint of the disk",
            ));
        }
        Ok(&self.top)
    }
}

impl Running for MachineProcess {
    fn start_times(&self) -> Option<StartTimes> {
        self.times.clone()
    }

    fn kill(&mut self, grace: Duration) {
        if let Some(gate) = &mut self.gate {
            gate.mute();
        }
        self.shared.end(grace);
    }

    fn peak_memory(&self) -> Option<u64> {
        self.shared.peak_memory()
    }

    /// The bytes moved are those that the process told last; it is asked anew.
    fn usage(&self) -> Usage {
        let (memory, processor) = usage::usage(&self.shared.process.pid().to_string());
        self.shared.tell(&Wish::Figures);
        let figures = self.shared.figures();
        Usage {
            memory,
            processor,
            disk: figures.disk,
            shares: figures.shares,
            network: figures.network,
        }
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        Some(Arc::new(Ports(Arc::clone(&self.shared))))
    }

    fn keep_disk(&self, folder: &Path) -> io::Result<Option<u64>> {
        let Some(changes) = &self.changes else {
            return Ok(None);
        };
        keep_changes(changes.top()?, folder, |map| self.write_map(&map)).map(Some)
    }

    fn checkpoint(&mut self) -> io::Result<bool> {
        let Some(changes) = &self.changes else {
            return Ok(false);
        };
        if changes.checkpoint.is_some() {
            return Err(io::Error::other("there is one already"));
        }
        let next = tmpfile::create(&changes.scratch)?;
        next.set_len(changes.top()?.metadata()?.len())?;
        let map = tmpfile::create(&changes.scratch)?;
        let asked = self.ask(&Wish::Checkpoint, &[&next, &map]);
        if let Some(changes) = &mut self.changes {
            if let Err(error) = asked {
                changes.unanswered = error.kind() == io::ErrorKind::TimedOut;
                return Err(error);
            }
            let before = std::mem::replace(&mut changes.top, next);
            changes.checkpoint = Some((before, map));
        }
        Ok(true)
    }

    fn keep_checkpoint(&self, folder: &Path) -> io::Result<Option<u64>> {
        let changes = self.changes.as_ref();
        let Some((blocks, map)) = changes.and_then(|changes| changes.checkpoint.as_ref()) else {
            return Ok(None);
        };
        keep_changes(blocks, folder, |mut file| {
            let mut map = map;
            map.rewind()?;
            io::copy(&mut map, &mut file)?;
            file.sync_all()
        })
        .map(Some)
    }
}

impl MachineProcess {
    /// Has the process say which blocks of its disk have changed.
    fn write_map(&self, map: &File) -> io::Result<()> {
        self.ask(&Wish::WriteMap, &[map])
    }

    /// Has the process do something with `files`, and waits for its answer.
    fn ask(&self, wish: &Wish, files: &[&File]) -> io::Result<()> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        // What is there already is no answer to this.
        let _ = maps.try_recv();
        self.send(wish, files)?;
        match maps.recv_timeout(MAP) {
            Ok(written) => written.map_err(io::Error::other),
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other(
                "the machine's process is gone, which knew what belongs to the disk",
            )),
        }
    }

    /// Sends a wish. A process that does not read must not hold this one up.
    fn send(&self, wish: &Wish, files: &[&File]) -> io::Result<()> {
        let question = wire::message(wish)?;
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let deadline = Instant::now() + ROOM;
        while !(self.shared.process.channel()).try_send(&question, &files)? {
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the machine's process does not answer",
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for MachineProcess {
    fn drop(&mut self) {
        self.gate = None;
        self.shared.end(Duration::ZERO);
        if let Some(follower) = self.follower.take() {
            // A panic of the follower has been printed; there is nothing to add here.
            let _ = follower.join();
        }
    }
}

/// What the host says to the guest.
#[derive(Debug)]
struct Ports(Arc<Shared>);

impl Console for Ports {
    fn send(&self, bytes: &[u8]) {
        self.0.input(Port::Console, bytes);
    }

    fn resize(&self, columns: u16, rows: u16) {
        self.0
            .input(Port::Control, size_line(columns, rows).as_bytes());
    }

    fn tell_time(&self, time: Duration) {
        self.0.input(Port::Control, time_line(time).as_bytes());
    }

    fn answer_checkpoint(&self, kept: bool) {
        self.0
            .input(Port::Control, checkpoint_line(kept).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_protocol::ports;
    use boxbuild_vmm::virtio::console;

    /// The VMM depends on no other package, so it has the name once more.
    #[test]
    fn the_vmm_names_the_control_port_as_the_protocol_does() {
        assert_eq!(console::CONTROL_PORT, ports::CONTROL);
    }
}
