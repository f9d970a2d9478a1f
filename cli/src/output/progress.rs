//! The progress of a run: a live line for the current step on a terminal, plain lines elsewhere,
//! events for programs.

use boxbuild_host::secret;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use boxbuild_host::reporter::Reporter;
use boxbuild_host::text::screen;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

use super::ci::{self, Groups};
use super::estimate::{Estimate, about};
use super::event::{BuildEvent, PhaseState};
use super::heartbeat::{self, Beat, Heartbeat};
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
    /// Says what is going on where nothing is live.
    heartbeat: Option<Heartbeat>,
    /// How lines of log and console are folded, where they are.
    groups: Option<Groups>,
    /// The group that is open.
    open_group: Option<String>,
    /// How long the steps of the last build of the same took.
    last_times: Vec<(String, Duration)>,
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
        let terminal = std::io::stderr().is_terminal();
        let style = if terminal && !verbose {
            Style::Live
        } else {
            Style::Plain
        };
        let heartbeat = (!terminal).then(|| Heartbeat::start(heartbeat::INTERVAL, say));
        let mut progress = Progress::of(style, verbose, heartbeat);
        progress.groups = ci::groups().filter(|_| verbose && !terminal);
        progress
    }

    /// Progress for programs; `verbose` adds every line of log and console.
    pub(crate) fn events(verbose: bool) -> Progress {
        let heartbeat = Heartbeat::start(heartbeat::INTERVAL, tell);
        Progress::of(Style::Events, verbose, Some(heartbeat))
    }

    fn of(style: Style, verbose: bool, heartbeat: Option<Heartbeat>) -> Progress {
        Progress {
            style,
            verbose,
            log_on_stdout: false,
            log_socket: None,
            muted: false,
            current: None,
            heartbeat,
            groups: None,
            open_group: None,
            last_times: Vec::new(),
        }
    }

    /// Sets how long the steps of the last build of the same took, in order.
    pub(crate) fn expect(&mut self, last_times: Vec<(String, Duration)>) {
        self.last_times = last_times;
    }

    /// Prints a line for people, outside of any group.
    fn print(&mut self, text: &str) {
        self.close_group();
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.said();
        }
        print_line(text);
    }

    /// Prints a line of log or console, in the group of the current step if lines are folded.
    fn print_detail(&mut self, text: &str) {
        if let (Some(groups), None, Some(step)) = (self.groups, &self.open_group, &self.current) {
            groups.begin(&step.name);
            self.open_group = Some(step.name.clone());
        }
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.said();
        }
        print_line(text);
    }

    fn close_group(&mut self) {
        if let (Some(groups), Some(name)) = (self.groups, self.open_group.take()) {
            groups.end(&name);
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
        let estimate = Estimate::of(&self.last_times, step);
        if self.is_for_programs() {
            emit(&BuildEvent::Phase {
                phase: step.to_owned(),
                state: PhaseState::Started,
                seconds: None,
                expected_seconds: estimate.map(|estimate| estimate.step.as_secs_f64()),
            });
        }
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.begin(step, estimate);
        }
        let bar = (self.style == Style::Live && !self.muted).then(|| live_line(step, estimate));
        self.current = Some(Step {
            name: step.to_owned(),
            started: Instant::now(),
            reported: Instant::now(),
            bar,
        });
    }

    fn mute(&mut self, muted: bool) {
        self.muted = muted;
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.mute(muted);
        }
    }

    fn detail(&mut self, text: &str) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.work(text);
        }
        match &self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(screen(text).into_owned()),
            Some(step) if self.is_for_programs() => emit(&BuildEvent::Progress {
                phase: step.name.clone(),
                text: text.to_owned(),
                seconds: None,
                left_seconds: None,
            }),
            _ => {}
        }
    }

    fn report(&mut self, text: &str) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.work(text);
        }
        match &mut self.current {
            Some(Step { bar: Some(bar), .. }) => bar.set_message(screen(text).into_owned()),
            Some(step) if step.reported.elapsed() > REPORT_INTERVAL => {
                step.reported = Instant::now();
                let line = format!("  {:<14} {text}", step.name);
                self.print(&line);
            }
            _ => {}
        }
    }

    fn line(&mut self, text: &str) {
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.line(text);
        }
        if !self.verbose {
            return;
        }
        if self.is_for_programs() {
            emit(&BuildEvent::Line {
                text: text.to_owned(),
            });
        } else if !self.muted {
            self.print_detail(text);
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
            return;
        }
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.line(text);
            // Events of each minute come whatever else is said.
            if self.style != Style::Events {
                heartbeat.said();
            }
        }
        if self.is_for_programs() {
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
            _ => self.print(&text),
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
        if let Some(heartbeat) = &self.heartbeat {
            heartbeat.end();
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
                expected_seconds: None,
            });
        } else if !self.muted {
            self.print(&text::phase_line(&step.name, good, time));
        }
    }
}

/// A live line for the step `name`.
fn live_line(name: &str, estimate: Option<Estimate>) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let template = "{spinner} {prefix:<14} {elapsed:>6}  {left}{wide_msg:.dim}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        let left = move |state: &ProgressState, line: &mut dyn fmt::Write| {
            if let Some(left) = estimate.and_then(|estimate| estimate.left(state.elapsed())) {
                // A line without an estimate is as good.
                let _ = write!(line, "{}  ", about(left));
            }
        };
        bar.set_style(style.with_key("left", left));
    }
    bar.set_prefix(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// Says what is going on, for people.
fn say(beat: &Beat) {
    print_line(&text::beat_line(beat));
}

/// Tells what is going on, for programs.
fn tell(beat: &Beat) {
    emit(&BuildEvent::Progress {
        phase: beat.step.clone(),
        text: beat.text.clone().unwrap_or_default(),
        seconds: Some(beat.time.as_secs_f64()),
        left_seconds: beat.left.map(|left| left.as_secs_f64()),
    });
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(Step { bar: Some(bar), .. }) = &self.current {
            bar.finish_and_clear();
        }
        self.close_group();
    }
}
