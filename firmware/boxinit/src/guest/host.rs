//! Messages of the host: the size of its terminal, its time, its answer to a checkpoint.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boxbuild_protocol::host_message::{HostMessage, MAX_LENGTH};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_settime};

use super::checkpoint::Checkpoint;
use super::control::Control;

/// A clock that is less wrong is left alone: programs do not like one that jumps.
const LEAST_ERROR: Duration = Duration::from_millis(500);

/// Follows what the host says from now on. Must be called after signals are taken over, which a thread
/// inherits.
pub(super) fn follow(control: &Control, checkpoint: Checkpoint) {
    if let Some(port) = control.incoming() {
        // The thread ends with this process. Without it, terminal and clock stay as they are.
        let _ = std::thread::Builder::new().spawn(move || read(port, &checkpoint));
    }
}

fn read(mut port: File, checkpoint: &Checkpoint) {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match port.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => {
                match HostMessage::parse(&line) {
                    Some(HostMessage::TerminalSize { columns, rows }) => set_size(columns, rows),
                    Some(HostMessage::Time(time)) => set_clock(time),
                    Some(HostMessage::Checkpoint { kept }) => checkpoint.answer(kept),
                    None => {}
                }
                line.clear();
            }
            Ok(1) if line.len() < MAX_LENGTH => line.push(byte[0]),
            Ok(1) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut ready, PollTimeout::NONE);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The host has closed its end.
            Ok(_) | Err(_) => return,
        }
    }
}

/// Sets the clock to `time` since the epoch, unless it is nearly that.
fn set_clock(time: Duration) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    if now.abs_diff(time) >= LEAST_ERROR {
        // Fails for a time that no clock can have.
        let _ = clock_settime(ClockId::CLOCK_REALTIME, time.into());
    }
}

fn set_size(columns: u16, rows: u16) {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the call reads `size`, which lives through it; standard input is the console.
    unsafe { libc::ioctl(0, libc::TIOCSWINSZ, &raw const size) };
}
