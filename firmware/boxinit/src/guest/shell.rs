//! The interactive shell on the console.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use boxbuild_protocol::host_message::{HostMessage, MAX_LENGTH};
use boxbuild_protocol::report::{GuestPhase, Report};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::control::Control;
use super::environment;
use super::process::{SpawnMode, Supervisor};

/// Runs a root shell and waits for its end.
pub(super) fn run(supervisor: &mut Supervisor, control: &mut Control) {
    if let Some(port) = control.incoming() {
        // The thread ends with this process. Without it, the terminal keeps its size.
        let _ = std::thread::Builder::new().spawn(move || follow_host(port));
    }
    control.report(Report::Phase(GuestPhase::Shell));
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
        .envs(environment::base())
        .env("TERM", "linux")
        .current_dir("/root");
    if !Path::new("/root").is_dir() {
        command.current_dir("/");
    }
    if let Err(error) = supervisor.run(command, SpawnMode::OnTerminal, control) {
        eprintln!("boxbuild: cannot start {shell}: {error}");
    }
}

/// Reads messages of the host and gives the console the size of the host's terminal.
fn follow_host(mut port: File) {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match port.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => {
                if let Some(HostMessage::TerminalSize { columns, rows }) = HostMessage::parse(&line)
                {
                    set_size(columns, rows);
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
