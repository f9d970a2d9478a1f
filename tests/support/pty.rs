//! A pseudo-terminal with a program on it, and its user.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::scaled_timeout;

/// Far more seconds than anything here takes on a busy machine.
const LIMIT: u64 = 240;

/// A program and its terminal.
pub struct Terminal {
    /// The program.
    pub child: Child,
    master: File,
    /// Kept open, so that the terminal outlives the program.
    terminal: OwnedFd,
    output: Receiver<Vec<u8>>,
    seen: String,
    all: String,
}

impl std::fmt::Debug for Terminal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

impl Terminal {
    /// Starts `command` on a terminal of 100 columns and 30 rows.
    pub fn start(mut command: Command) -> Terminal {
        let size = Winsize {
            ws_row: 30,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn();
        let master = File::from(pty.master);
        let (sender, output) = channel();
        let mut reader = master.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Terminal {
            child: child.expect("the program starts"),
            master,
            terminal: pty.slave,
            output,
            seen: String::new(),
            all: String::new(),
        }
    }

    /// Types.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until `text` is on the screen, behind what was waited for before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + scaled_timeout(LIMIT);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(rest.min(Duration::from_secs(1))) {
                Ok(bytes) => self.take(&bytes),
                Err(_) if rest.is_zero() => panic!("'{text}' is not in:\n{}", self.seen),
                Err(_) => {}
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.seen += &text;
        self.all += &text;
    }

    /// Returns all that the program has written so far, with what the terminal takes as commands.
    pub fn all(&mut self) -> &str {
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.take(&bytes);
        }
        &self.all
    }

    /// Whether the terminal is as it was: it echoes what is typed, line by line.
    pub fn is_restored(&self) -> bool {
        let flags = tcgetattr(self.terminal.as_fd()).unwrap().local_flags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    }

    /// Waits for the end and returns the exit code, -1 for a signal.
    pub fn wait(&mut self) -> i32 {
        let deadline = Instant::now() + scaled_timeout(LIMIT);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        panic!("it does not end; on the screen:\n{}", self.seen);
    }
}
