//! The progress of a run: a live line for the current step on a terminal, plain lines elsewhere,
//! events for programs.

use boxbuild_host::secret;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use boxbuild_host::reporter::Reporter;
use boxbuild_host::text::screen;
use indicatif::{ProgressBar, ProgressStyle};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use super::event::{BuildEvent, PhaseState};
use super::json::emit;
use super::print::{print_line, print_text};
use super::text;

/// Without a terminal, a long step is reported on at these intervals.
const REPORT_INTERVAL: Duration = Duration::from_secs(20);

/// Shows the progress of a run.
#[derive(Debug)]
pub(crate) struct Progress {
    style: Style,
    /// Shows every line of log and console.
    verbose: bool,
    /// Prints the log on standard output.
    log_on_stdout: bool,
    /// Where the log goes, too.
    log_socket: Option<UnixStream>,
    /// Something else has the terminal.
    muted: bool,
    current: Option<Step>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// A live line on a terminal, for the current step.
    Live,
    /// Lines on standard error.
    Plain,
    /// Events for programs on standard output ([`super::event`]).
    Events,
}

/// The step that runs.
#[derive(Debug)]
struct Step {
    name: String,
    started: Instant,
    /// When [`Progress::report`] last printed a line about it.
    reported: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Progress for people; `verbose` shows every line of log and console in place of a live line.
    pub(crate) fn new(verbose: bool) -> Progress {
        Progress {
            style: if !verbose && std::io::stderr().is_terminal() {
                Style::Live
            } else {
                Style::Plain
            },
            verbose,
            log_on_stdout: false,
            log_socket: None,
            muted: false,
            current: None,
        }
    }

    /// Progress for programs; `verbose` adds every line of log and console.
    pub(crate) fn events(verbose: bool) -> Progress {
        Progress {
            style: Style::Events,
            verbose,
            log_on_stdout: false,
            log_socket: None,
            muted: false,
            current: None,
        }
    }

    /// Prints KIWI's log on standard output (`--logfile stdout`); for programs, each line is an event
    /// there.
    pub(crate) fn print_log(&mut self) {
        self.log_on_stdout = true;
        // A live line on the same terminal would be in the way.
        if self.style == Style::Live && std::io::stdout().is_terminal() {
            self.style = Style::Plain;
        }
    }

    /// Sends KIWI's log to the Unix socket `path` (`--logsocket`).
    pub(crate) fn send_log(&mut self, path: &Path) {
        match connect(path) {
            Ok(socket) => self.log_socket = Some(socket),
            Err(error) => self.note(&format!(
                "--logsocket {}: {error}: the log is not sent there",
                path.display()
            )),
        }
    }

    /// Whether it is for programs.
    pub(crate) fn is_for_programs(&self) -> bool {
        self.style == Style::Events
    }
}

/// Connects to a Unix socket. A reader that does not read loses the log, and holds nothing up.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

impl Reporter for Progress {
    fn begin(&mut self, step: &str) {
        self.finish(true);
        if self.is_for_programs() {
            emit(&BuildEvent::Phase {
                phase: step.to_owned(),
                state: PhaseState::Started,
                seconds: None,
            });
        }
        let bar = (self.style == Style::Live && !self.muted).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {prefix:<14} {elapsed:>6}  {wide_msg:.dim}")
            {
                bar.set_style(style);
            }
            bar.set_prefix(step.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        self.current = Some(Step {
            name: step.to_owned(),
            started: Instant::now(),
            reported: Instant::now(),
            bar,
        });
    }

    fn mute(&mut self, muted: bool) {
        self.muted = muted;
    }

    fn detail(&mut self, text: &str) {
        match &self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(screen(text).into_owned()),
            Some(step) if self.is_for_programs() => emit(&BuildEvent::Progress {
                phase: step.name.clone(),
                text: text.to_owned(),
            }),
            _ => {}
        }
    }

    fn report(&mut self, text: &str) {
        match &mut self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(screen(text).into_owned()),
            Some(step) if step.reported.elapsed() > REPORT_INTERVAL => {
                step.reported = Instant::now();
                print_line(&format!("  {:<14} {text}", step.name));
            }
            _ => {}
        }
    }

    fn line(&mut self, text: &str) {
        if !self.verbose {
            return;
        }
        if self.is_for_programs() {
            emit(&BuildEvent::Line {
                text: text.to_owned(),
            });
        } else if !self.muted {
            print_line(text);
        }
    }

    fn log_line(&mut self, text: &str) {
        if let Some(socket) = &mut self.log_socket
            && socket.write_all(format!("{text}\n").as_bytes()).is_err()
        {
            self.log_socket = None;
            self.note("--logsocket: its reader is gone or too slow: the log is sent there no more");
        }
        if !self.log_on_stdout {
            self.line(text);
        } else if self.is_for_programs() {
            emit(&BuildEvent::Line {
                text: text.to_owned(),
            });
        } else if !self.muted {
            // A reader that has gone away does not end a build.
            let _ = print_text(&format!("{text}\n"));
        }
    }

    fn note(&mut self, text: &str) {
        let text = secret::redact(text);
        match &self.current {
            _ if self.is_for_programs() => emit(&BuildEvent::Note {
                text: text.into_owned(),
            }),
            Some(Step { bar: Some(bar), .. }) => bar.suspend(|| print_line(&text)),
            _ => print_line(&text),
        }
    }

    fn listening(&mut self, address: SocketAddr) {
        let event = BuildEvent::Ssh {
            address: address.ip(),
            port: address.port(),
        };
        if self.is_for_programs() {
            emit(&event);
        } else {
            for line in text::lines(&event) {
                self.note(&line);
            }
        }
    }

    fn finish(&mut self, good: bool) {
        let Some(step) = self.current.take() else {
            return;
        };
        if let Some(bar) = step.bar {
            bar.finish_and_clear();
        }
        let time = step.started.elapsed();
        if self.is_for_programs() {
            emit(&BuildEvent::Phase {
                phase: step.name,
                state: if good {
                    PhaseState::Done
                } else {
                    PhaseState::Failed
                },
                seconds: Some(time.as_secs_f64()),
            });
        } else if !self.muted {
            print_line(&text::phase_line(&step.name, good, time));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Step { bar: Some(bar), .. }) = &self.current {
            bar.finish_and_clear();
        }
    }
}
