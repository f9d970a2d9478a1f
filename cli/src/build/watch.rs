//! Everything observed of a running box, and the verdict on it.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use boxbuild_protocol::report::{GuestPhase, Report, Sshd};

use super::outcome::Reason;
use crate::engine::Ended;
use crate::follow::{Lines, Phase, Pulse, Tail, phase_of_log_line};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::target::ResultCode;
use crate::terminal::Session;
use crate::timings::{Milestone, Recorder};

/// Console lines that are kept for the report of a failure.
const LAST_CONSOLE_LINES: usize = 15;

/// Log lines that are kept for the report of a failure.
const LAST_LOG_LINES: usize = 12;

/// How often the log is looked at when the machine says nothing: until there is a first line,
/// whose time matters, and later.
const FIRST_TICK: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(200);
/// What the box writes to its console is kept up to this length, in bytes.
const TRANSCRIPT: usize = 1 << 20;

/// When a machine has run for too long.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// From its start.
    pub(super) total: Option<Duration>,
    /// Without a sign of life.
    pub(super) idle: Option<Duration>,
}

/// Everything observed of a running machine.
pub(super) struct Watch<'a> {
    pub(super) progress: &'a mut Progress,
    pub(super) started: Instant,
    limits: Limits,
    last_life: Instant,
    reached: Vec<(Phase, Instant)>,
    tail: Tail,
    console: Lines,
    control: Lines,
    pulse: Pulse,
    console_lines: VecDeque<String>,
    log_lines: VecDeque<String>,
    error_lines: VecDeque<String>,
    panic: Option<String>,
    reports: bool,
    exit: Option<i32>,
    done: bool,
    pub(super) recorder: Recorder,
    transcript: String,
    unfit: Option<String>,
    pub(super) came_up: bool,
    /// The command that leads into the box, until the box has said whether it does.
    pub(super) ssh: Option<String>,
}

impl<'a> Watch<'a> {
    /// Watches a machine that starts now and writes the log `log`.
    pub(super) fn new(log: &Path, limits: Limits, progress: &'a mut Progress) -> Watch<'a> {
        let now = Instant::now();
        Watch {
            progress,
            started: now,
            limits,
            last_life: now,
            reached: vec![(Phase::Boot, now)],
            tail: Tail::new(log),
            console: Lines::default(),
            control: Lines::default(),
            pulse: Pulse::default(),
            console_lines: VecDeque::new(),
            log_lines: VecDeque::new(),
            error_lines: VecDeque::new(),
            panic: None,
            reports: false,
            exit: None,
            done: false,
            transcript: String::new(),
            recorder: Recorder::of_this_process(),
            unfit: None,
            came_up: false,
            ssh: None,
        }
    }

    /// How long to wait for the machine to say something before the log is looked at.
    pub(super) fn tick(&self) -> Duration {
        if self.log_lines.is_empty() {
            FIRST_TICK
        } else {
            TICK
        }
    }

    pub(super) fn console(&mut self, bytes: &[u8]) {
        self.last_life = Instant::now();
        let mut console = std::mem::take(&mut self.console);
        console.push(bytes, |line| self.console_line(line));
        self.console = console;
    }

    fn console_line(&mut self, line: &str) {
        self.transcript.push_str(line);
        self.transcript.push('\n');
        if self.transcript.len() > TRANSCRIPT {
            // The second half, from the beginning of a line on.
            let middle = self.transcript.ceil_char_boundary(TRANSCRIPT / 2);
            let cut = self.transcript[middle..]
                .find('\n')
                .map_or(middle, |at| middle + at + 1);
            self.transcript.drain(..cut);
        }
        if self.panic.is_none()
            && let Some((_, what)) = line.split_once("Kernel panic - not syncing: ")
        {
            self.panic = Some(what.to_owned());
        } else if self.panic.is_some() {
            // Registers and call traces would push out what led to it.
            self.progress.line(line);
            return;
        }
        self.progress.line(line);
        keep(&mut self.console_lines, line, LAST_CONSOLE_LINES);
    }

    pub(super) fn control(&mut self, bytes: &[u8]) {
        let mut control = std::mem::take(&mut self.control);
        control.push(bytes, |line| {
            if let Some(report) = Report::parse(line) {
                self.recorder.report(&report);
                self.report(report);
            }
        });
        self.control = control;
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Phase(GuestPhase::Setup) => {
                self.last_life = Instant::now();
                self.came_up = true;
            }
            Report::Phase(phase) => {
                self.reports = true;
                self.last_life = Instant::now();
                self.done |= phase == GuestPhase::Done;
                self.enter(phase.into());
            }
            Report::Mark(step, time) => self.progress.line(&format!(
                "boxbuild: {step} after {:.3} s in the box",
                time.as_secs_f64()
            )),
            Report::Unfit(reason) => self.unfit = Some(reason.to_string()),
            Report::Beat(ticks) if self.pulse.beat(ticks) => {
                self.last_life = Instant::now();
            }
            Report::Beat(_) => {}
            Report::Exit(code) => self.exit = Some(code),
            // The guest says which; the words are ours, and they are said once.
            Report::Sshd(sshd) => {
                if let Some(command) = self.ssh.take() {
                    self.progress.note(&match sshd {
                        Sshd::Ready => format!("the box is open: {command}"),
                        Sshd::None => String::from(
                            "--ssh-port: the box has no sshd: install openssh-server in it, or bring \
                             one in boxroot/ of the description",
                        ),
                        Sshd::Failed => String::from(
                            "--ssh-port: the sshd of the box does not start; why is on its console \
                             (--verbose)",
                        ),
                    });
                }
            }
        }
    }

    /// Whether the guest has come to `phase`, or beyond.
    pub(super) fn reached(&self, phase: Phase) -> bool {
        self.reached.last().is_some_and(|(last, _)| *last >= phase)
    }

    /// The build's exit code, if the guest has told it.
    pub(super) fn exit_code(&self) -> Option<i32> {
        self.exit
    }

    /// The build had come to its end when the user stopped the machine.
    pub(super) fn was_left(&mut self) {
        self.done = true;
    }

    /// The end of what the box wrote to its console.
    pub(super) fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Shows a line that the user must see.
    pub(super) fn note(&mut self, text: &str, session: Option<&Session>) {
        match session {
            Some(session) => session.say(text),
            None => self.progress.note(text),
        }
    }

    /// Looks at the log.
    pub(super) fn look(&mut self) {
        let mut lines = Vec::new();
        // A log that cannot be read is no reason to end a build; its end decides.
        let grown = self
            .tail
            .poll(|line| lines.push(line.to_owned()))
            .unwrap_or(false);
        if grown {
            self.last_life = Instant::now();
        }
        for line in lines {
            self.log_line(&line);
        }
    }

    fn log_line(&mut self, line: &str) {
        self.recorder.reach(Milestone::FirstLine);
        if let Some(phase) = phase_of_log_line(line) {
            self.enter(phase);
        }
        if line.starts_with("[ ERROR") || line.starts_with("[ CRITICAL") {
            keep(&mut self.error_lines, line, LAST_LOG_LINES);
        }
        keep(&mut self.log_lines, line, LAST_LOG_LINES);
        self.progress.line(line);
        if line.starts_with("[ INFO") {
            let message = line.split_once(" | ").map_or(line, |(_, message)| message);
            self.progress.detail(message);
        }
    }

    /// Phases only go forward: a log line can come later than the report that overtook it.
    fn enter(&mut self, phase: Phase) {
        self.came_up |= matches!(phase, Phase::Prepare | Phase::Create | Phase::Bundle);
        if self.reached.last().is_some_and(|(last, _)| *last < phase) {
            self.reached.push((phase, Instant::now()));
            match phase {
                Phase::Create => self.recorder.reach(Milestone::Create),
                Phase::Bundle => self.recorder.reach(Milestone::Bundle),
                Phase::PowerOff => self.recorder.reach(Milestone::PowerOff),
                Phase::Boot | Phase::Prepare | Phase::Shell => {}
            }
            self.progress.begin(phase.name());
        }
    }

    /// Why the machine is to be stopped; time only counts if it is `timed`.
    pub(super) fn reason_to_stop(&self, interrupt: &Interrupt, timed: bool) -> Option<Reason> {
        if interrupt.count() > 0 {
            return Some(Reason::Interrupted);
        }
        if !timed {
            return None;
        }
        if let Some(limit) = self
            .limits
            .total
            .filter(|limit| self.started.elapsed() >= *limit)
        {
            return Some(Reason::Timeout(limit));
        }
        let limit = self
            .limits
            .idle
            .filter(|limit| self.last_life.elapsed() >= *limit)?;
        Some(Reason::Hung(limit))
    }

    /// Takes what came last.
    pub(super) fn end(&mut self) {
        self.look();
        if let Some(rest) = self.tail.rest() {
            self.log_line(&rest);
        }
        if let Some(rest) = self.console.rest() {
            self.console_line(&rest);
        }
    }

    /// Why the build has no result, or `None` if it has one. Only a guest that powered off
    /// itself *and* left a code of 0 has one.
    pub(super) fn verdict(&self, ended: &Ended, code: &ResultCode) -> Option<Reason> {
        if let Ended::Failed(text) = ended {
            return Some(Reason::Engine(text.clone()));
        }
        if let Some(reason) = &self.unfit {
            return Some(Reason::Unfit(reason.clone()));
        }
        if let Some(panic) = &self.panic {
            return Some(Reason::Panic(panic.clone()));
        }
        match (ended, code) {
            (Ended::PoweredOff, _) if self.reports && !self.done => Some(Reason::EarlyPowerOff),
            (Ended::PoweredOff, ResultCode::Code(0)) => None,
            (Ended::PoweredOff, ResultCode::Code(code)) => Some(Reason::Kiwi(*code)),
            (Ended::PoweredOff, ResultCode::Missing) => Some(Reason::EarlyPowerOff),
            (Ended::PoweredOff, ResultCode::Unreadable(why)) => {
                Some(Reason::UnreadableCode(why.clone()))
            }
            (Ended::Reset, _) => Some(Reason::Reset),
            (Ended::TripleFault(place), _) => Some(Reason::TripleFault(place.clone())),
            (Ended::Killed, _) => Some(Reason::Interrupted),
            (Ended::Failed(text), _) => Some(Reason::Engine(text.clone())),
        }
    }

    pub(super) fn phases(&self) -> Vec<(Phase, Duration)> {
        let end = Instant::now();
        let ends = self.reached.iter().skip(1).map(|(_, at)| *at).chain([end]);
        self.reached
            .iter()
            .zip(ends)
            .map(|((phase, start), end)| (*phase, end.duration_since(*start)))
            .collect()
    }

    pub(super) fn last_lines(&self, reason: &Reason) -> Vec<String> {
        let lines = match reason {
            Reason::Kiwi(_) if !self.error_lines.is_empty() => &self.error_lines,
            Reason::Kiwi(_) | Reason::Timeout(_) if !self.log_lines.is_empty() => &self.log_lines,
            Reason::Interrupted => return Vec::new(),
            _ => &self.console_lines,
        };
        lines.iter().cloned().collect()
    }
}

fn keep(lines: &mut VecDeque<String>, line: &str, most: usize) {
    if line.trim().is_empty() {
        return;
    }
    if lines.len() == most {
        lines.pop_front();
    }
    lines.push_back(line.to_owned());
}
