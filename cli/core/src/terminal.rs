//! The user's terminal as the console of a guest.
//!
//! Keys go to the guest as they are, Ctrl-C among them. Ctrl-] pressed three times within a
//! second is for boxbuild: it ends the machine. The terminal gets its settings back whatever
//! happens; where this process is killed, a waiting process does that.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use signal_hook::consts::SIGWINCH;

use boxbuild_engine::Console;
use boxbuild_host::text::screen;

/// How the user leaves, in words.
pub const LEAVE: &str = "Ctrl-] three times stops the box at once";

/// Ctrl-], which nothing else wants (ASCII GS).
const ESCAPE: u8 = 0x1d;
/// How often, and within which time.
const PRESSES: usize = 3;
const WITHIN: Duration = Duration::from_secs(1);

/// Puts the terminal back when this process is gone. Changing a terminal from the background
/// stops a process unless it ignores the signal (termios(3)).
const RESTORE: &str = "trap '' INT TERM HUP QUIT TTOU; read -r _; exec stty \"$1\" <&3 2>/dev/null";

/// Refuses to go on where there is no terminal; the text says so.
///
/// # Errors
/// Fails in words that complete the name of an option or command.
pub fn needed() -> Result<(), &'static str> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        Ok(())
    } else {
        Err(
            "needs a terminal to type on: standard input and output must both be one (in a \
             script, use: script -c 'boxbuild …')",
        )
    }
}

/// The terminal while it belongs to the guest.
#[derive(Debug)]
pub struct Session {
    saved: Termios,
    restorer: Option<Child>,
    left: Arc<AtomicBool>,
    wake: UnixStream,
    reader: Option<JoinHandle<()>>,
}

impl Session {
    /// Hands the terminal over to the guest behind `console`.
    ///
    /// # Errors
    /// Fails if standard input is not a terminal, or the host does not allow it. The terminal is as
    /// it was then.
    pub fn open(console: Arc<dyn Console>) -> io::Result<Session> {
        let stdin = io::stdin();
        let saved = tcgetattr(&stdin)?;
        let restorer = restorer().ok();
        let (wake, woken) = UnixStream::pair()?;
        let (resized, winch) = UnixStream::pair()?;
        signal_hook::low_level::pipe::register(SIGWINCH, winch)?;
        let left = Arc::new(AtomicBool::new(false));
        let mut raw = saved.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw)?;
        let mut session = Session {
            saved,
            restorer,
            left: Arc::clone(&left),
            wake,
            reader: None,
        };
        let keyboard = Keyboard {
            console,
            left,
            presses: Presses::default(),
        };
        let reader = std::thread::Builder::new()
            .name(String::from("keyboard"))
            .spawn(move || keyboard.run(&woken.into(), resized))?;
        session.reader = Some(reader);
        Ok(session)
    }

    /// Shows what the guest wrote, as it is: it is the guest's terminal.
    pub fn show(&self, bytes: &[u8]) {
        let mut stdout = io::stdout().lock();
        // A terminal that is gone ends the run by its own signal.
        let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
    }

    /// Shows a line of boxbuild's own.
    pub fn say(&self, text: &str) {
        let text = screen(text).replace('\n', "\r\n");
        self.show(format!("\r\n{text}\r\n").as_bytes());
    }

    /// Whether the user has had enough.
    pub fn left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Errors have nowhere to go.
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.saved);
        let _ = (&self.wake).write_all(b"x");
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if let Some(mut restorer) = self.restorer.take() {
            // It has nothing left to do.
            let _ = restorer.kill();
            let _ = restorer.wait();
        }
        let _ = io::stdout().write_all(b"\n");
    }
}

/// A process that waits for the end of this one, and then restores the terminal.
fn restorer() -> io::Result<Child> {
    let terminal: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let output = Command::new("stty")
        .arg("-g")
        .stdin(terminal.try_clone()?)
        .output()?;
    let settings = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if settings.is_empty() {
        return Err(io::Error::other("stty does not report the settings"));
    }
    // Standard error carries the terminal to descriptor 3.
    Command::new("/bin/sh")
        .args(["-c", &format!("exec 3<&2; {RESTORE}"), "boxbuild-terminal"])
        .arg(settings)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(terminal)
        .process_group(0)
        .spawn()
}

/// What is typed, on its way to the guest.
struct Keyboard {
    console: Arc<dyn Console>,
    left: Arc<AtomicBool>,
    presses: Presses,
}

impl Keyboard {
    fn run(mut self, woken: &OwnedFd, mut resized: UnixStream) {
        self.tell_size();
        let stdin = io::stdin();
        let mut buffer = [0; 4096];
        loop {
            let mut polled = [
                PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
                PollFd::new(resized.as_fd(), PollFlags::POLLIN),
                PollFd::new(woken.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut polled, PollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return,
                Ok(_) => {}
            }
            let [typed, size, end] = polled.map(|fd| fd.any().unwrap_or(false));
            if end {
                return;
            }
            if size {
                let _ = resized.read(&mut buffer);
                self.tell_size();
            }
            if typed {
                match nix::unistd::read(&stdin, &mut buffer) {
                    Ok(count) if count > 0 => self.typed(&buffer[..count]),
                    Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                    // The terminal is gone.
                    _ => {
                        self.left.store(true, Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
    }

    fn typed(&mut self, bytes: &[u8]) {
        if self.presses.see(bytes, Instant::now()) {
            self.left.store(true, Ordering::Relaxed);
        }
        self.console.send(bytes);
    }

    fn tell_size(&self) {
        if let Some((columns, rows)) = size() {
            self.console.resize(columns, rows);
        }
    }
}

/// Columns and rows of the terminal, if it says.
pub fn size() -> Option<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request fills a structure of this kind, which outlives the call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Counts presses of the escape key.
#[derive(Debug, Default)]
struct Presses {
    count: usize,
    first: Option<Instant>,
}

impl Presses {
    /// Takes what was typed; true when it is enough.
    fn see(&mut self, bytes: &[u8], now: Instant) -> bool {
        for byte in bytes {
            if *byte != ESCAPE {
                self.count = 0;
                continue;
            }
            let in_time = |first: Instant| now.duration_since(first) <= WITHIN;
            if self.count == 0 || !self.first.is_some_and(in_time) {
                self.count = 0;
                self.first = Some(now);
            }
            self.count += 1;
            if self.count == PRESSES {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_presses_in_a_second_are_an_escape() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut presses = Presses::default();
        assert!(presses.see(b"ls\x1d\x1d\x1d", at(0)));
        let mut presses = Presses::default();
        assert!(!presses.see(b"\x1d", at(0)));
        assert!(!presses.see(b"\x1d", at(300)));
        assert!(presses.see(b"\x1d", at(600)));
        let mut presses = Presses::default();
        assert!(!presses.see(b"\x1d\x1d", at(0)));
        assert!(!presses.see(b"x\x1d", at(10)), "something else in between");
        assert!(!presses.see(b"\x1d", at(1200)), "too slow");
        assert!(!presses.see(b"\x1d", at(1300)));
        assert!(presses.see(b"\x1d", at(1400)));
    }
}
