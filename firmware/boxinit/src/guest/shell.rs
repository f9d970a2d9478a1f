//! A shell for people, on the console.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use boxinit::job::terminal_size;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::build::environment;
use super::control::Control;
use super::process::{How, Supervisor};

/// Runs a root shell until it ends.
pub(super) fn run(supervisor: &mut Supervisor, control: &mut Control) {
    if let Some(port) = control.incoming() {
        // Ends with this process.
        let _ = std::thread::Builder::new().spawn(move || follow_size(port));
    }
    control.report("phase shell");
    let shell = ["/bin/bash", "/bin/sh"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let Some(shell) = shell else {
        eprintln!("boxbuild: the box has no shell");
        return;
    };
    let mut command = Command::new(shell);
    command
        .arg("-i")
        .env_clear()
        .envs(environment())
        .env("TERM", "linux")
        .current_dir("/root");
    if !Path::new("/root").is_dir() {
        command.current_dir("/");
    }
    if let Err(error) = supervisor.run(command, How::OnTerminal, control) {
        eprintln!("boxbuild: cannot start {shell}: {error}");
    }
}

/// Gives the console the size of the host's terminal, whenever the host tells it.
fn follow_size(mut port: File) {
    /// A line of the host is far shorter.
    const LONGEST: usize = 256;
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match port.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => {
                if let Some((columns, rows)) = terminal_size(&line) {
                    set_size(columns, rows);
                }
                line.clear();
            }
            Ok(1) if line.len() < LONGEST => line.push(byte[0]),
            Ok(1) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut ready = [PollFd::new(port.as_fd(), PollFlags::POLLIN)];
                let _ = poll(&mut ready, PollTimeout::NONE);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // The host is gone.
            Ok(_) | Err(_) => return,
        }
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
