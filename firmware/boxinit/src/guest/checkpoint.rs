//! The checkpoint of the disk between kiwi's `prepare` and `create`: what kiwi's process says on its end of a
//! socket goes to the host as a report, and the host's answer goes back.
//!
//! kiwi's process has frozen the disk's file system then: nothing here may write to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use boxbuild_protocol::host_message::HostMessage;
use boxbuild_protocol::paths::TARGET;
use boxbuild_protocol::report::Report;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::control::Control;

/// Longest line that kiwi's process may say, in bytes.
const LONGEST: usize = 64;

/// Who waits for the host's answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Checkpoint(Arc<Mutex<Option<UnixStream>>>);

/// kiwi's end of the socket, which only the next command may inherit.
#[derive(Debug)]
pub(super) struct KiwiEnd(OwnedFd);

impl KiwiEnd {
    /// The number of the descriptor that the command inherits.
    pub(super) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

impl Checkpoint {
    /// Connects kiwi's process with the host. `None` if the host cannot be told anything.
    pub(super) fn connect(&self, control: &Control) -> Option<KiwiEnd> {
        let port = control.incoming()?;
        let (ours, theirs) = UnixStream::pair().ok()?;
        let reader = ours.try_clone().ok()?;
        *self.waiting() = Some(ours);
        std::thread::Builder::new()
            .spawn(move || forward(reader, port))
            .ok()?;
        let theirs = OwnedFd::from(theirs);
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).ok()?;
        Some(KiwiEnd(theirs))
    }

    /// Passes the host's answer on.
    pub(super) fn answer(&self, kept: bool) {
        if let Some(kiwi) = self.waiting().take() {
            let line = format!("{}\n", HostMessage::Checkpoint { kept });
            // An error means that it does not wait any more.
            let _ = (&kiwi).write_all(line.as_bytes());
        }
    }

    /// Makes sure that the disk can be written, however kiwi's process ended.
    pub(super) fn finish(&self) {
        *self.waiting() = None;
        if let Ok(folder) = File::open(TARGET) {
            // Fails if nothing is frozen, which is as it should be.
            // SAFETY: the call touches no memory.
            unsafe { libc::ioctl(folder.as_raw_fd(), THAW, 0) };
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<UnixStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `FITHAW` (linux/fs.h): `_IOWR('X', 120, int)`.
#[allow(
    clippy::cast_lossless,
    clippy::cast_possible_wrap,
    reason = "the type is that of the C library"
)]
const THAW: libc::Ioctl = 0xc004_5878_u32 as libc::Ioctl;

/// Reports to the host once kiwi's process asks for it. It asks once, or never.
fn forward(mut kiwi: UnixStream, mut port: File) {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match kiwi.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => break,
            Ok(1) if line.len() < LONGEST => line.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(_) | Err(_) => return,
        }
    }
    let known = std::str::from_utf8(&line).ok().and_then(Report::parse);
    if known == Some(Report::CheckpointWanted) {
        // In one call, so that no other report gets in between. Without the report there is no answer, and
        // kiwi goes on after a while.
        let _ = port.write_all(format!("{}\n", Report::CheckpointWanted).as_bytes());
    }
}
