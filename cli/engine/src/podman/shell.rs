//! A shell in a running container, on a terminal of its own (`--box-debug`).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use boxbuild_host::reaper::die_with_parent;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::signal::Signal;
use nix::unistd::setsid;

use super::caller::Caller;
use super::host::Host;
use crate::channel::EventSender;
use crate::event::Event;
use crate::handle::Console;

/// What runs in the container. kiwi's own messages are in English.
const SHELL: &str = "command -v bash >/dev/null 2>&1 && exec bash -l; exec sh -l";

/// A container whose init system starts may not run yet when its user wants the shell.
const PATIENCE: Duration = Duration::from_secs(30);

/// Seconds that the container has for its end when the user has left the shell.
const STOP: &str = "10";

/// The commands that a shell needs.
#[derive(Debug)]
pub(super) struct Shell {
    sudo: Option<PathBuf>,
    /// Succeeds once the container runs.
    probe: Vec<OsString>,
    enter: Vec<OsString>,
    leave: Vec<OsString>,
}

impl Shell {
    /// A shell in the container `name`.
    pub(super) fn new(caller: &Caller, host: &Host, name: &str) -> Shell {
        let podman = |words: &[&str]| {
            let mut command = vec![host.program.clone().into()];
            command.extend(host.global_options());
            command.extend(words.iter().map(OsString::from));
            command
        };
        let term = std::env::var("TERM").unwrap_or_else(|_| String::from("linux"));
        let term = format!("TERM={term}");
        Shell {
            sudo: caller.sudo(),
            probe: podman(&["exec", name, "/bin/sh", "-c", ":"]),
            enter: podman(&[
                "exec",
                "--interactive",
                "--tty",
                // Ctrl-P is the shell's.
                "--detach-keys=",
                "--env",
                &term,
                name,
                "/bin/sh",
                "-c",
                SHELL,
            ]),
            leave: podman(&["stop", "--time", STOP, name]),
        }
    }

    /// Starts the shell; what it writes goes to `events`. When it ends, the container does.
    ///
    /// # Errors
    /// Fails if there is no terminal for it.
    pub(super) fn open(self, events: EventSender) -> io::Result<Arc<dyn Console>> {
        let (master, terminal) = new_terminal()?;
        let mut reader = master.try_clone()?;
        let output = events.clone();
        std::thread::Builder::new()
            .name(String::from("shell output"))
            .spawn(move || copy(&mut reader, &output))?;
        std::thread::Builder::new()
            .name(String::from("shell"))
            .spawn(move || {
                if let Err(error) = self.run(&terminal) {
                    events.note(format!("no shell in the container: {error}"));
                }
                // That it cannot be ended shows in that it does not end.
                self.quietly(&self.leave);
            })?;
        Ok(Arc::new(Keyboard(Mutex::new(master))))
    }

    /// Runs the shell to its end.
    fn run(&self, terminal: &OwnedFd) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.quietly(&self.probe) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(500));
        }
        let end = || terminal.try_clone().map(Stdio::from);
        let mut shell = command(self.sudo.as_ref(), &self.enter);
        shell.stdin(end()?).stdout(end()?).stderr(end()?);
        own_terminal(&mut shell);
        die_with_parent(&mut shell, Signal::SIGHUP);
        shell.status().map(drop)
    }

    /// Runs a command without a terminal; whether it succeeded.
    fn quietly(&self, words: &[OsString]) -> bool {
        let mut command = command(self.sudo.as_ref(), words);
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

fn command(sudo: Option<&PathBuf>, words: &[OsString]) -> Command {
    let mut words = words.iter();
    let program = words.next().cloned().unwrap_or_default();
    let mut command = match sudo {
        None => Command::new(program),
        Some(sudo) => {
            let mut command = Command::new(sudo);
            command.args(["-n", "--"]).arg(program);
            command
        }
    };
    command.args(words).current_dir("/");
    command
}

/// Creates a terminal: the side of its user, and that of the shell. No other program inherits them: one
/// that keeps the user's side would keep the shell from noticing that its user is gone.
fn new_terminal() -> io::Result<(File, OwnedFd)> {
    let pty = openpty(None, None)?;
    for end in [&pty.master, &pty.slave] {
        fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    // Input that the shell does not take is dropped; writing never waits.
    fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((File::from(pty.master), pty.slave))
}

/// Makes standard input the terminal of `command`, which leads a session of its own: podman learns of
/// its size by a signal.
fn own_terminal(command: &mut Command) {
    let take = || {
        setsid()?;
        // SAFETY: the request takes no memory; 0 means that the terminal is nobody else's.
        let taken = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
        if taken == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: the child calls setsid(2) and ioctl(2) only, which are async-signal-safe.
    unsafe {
        command.pre_exec(take);
    }
}

/// Copies what the shell writes.
fn copy(reader: &mut File, events: &EventSender) {
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(count) if count > 0 => events.send(Event::Console(buffer[..count].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The descriptor does not block since its other end writes.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
            }
            // Its last user is gone (EIO).
            _ => return,
        }
    }
}

/// The terminal, from the side of its user.
#[derive(Debug)]
struct Keyboard(Mutex<File>);

impl Console for Keyboard {
    /// A container has no disk of its own.
    fn answer_checkpoint(&self, _kept: bool) {}

    fn send(&self, bytes: &[u8]) {
        let mut terminal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = terminal.write_all(bytes);
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let terminal = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the request reads a structure of this kind, which outlives the call.
        let _ = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }

    /// A container has the host's clock.
    fn tell_time(&self, _time: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_inherited() {
        let (master, terminal) = new_terminal().unwrap();
        for end in [OwnedFd::from(master), terminal] {
            let flags = fcntl(&end, FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags, FdFlag::FD_CLOEXEC.bits());
        }
    }
}
