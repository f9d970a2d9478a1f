//! Everything observed of a running box, and the verdict on it.

use std::time::{Duration, Instant, SystemTime};

use boxbuild_engine::{Ended, StartTimes, Usage};
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::units::seconds;
use boxbuild_host::untrusted::Dir;
use boxbuild_protocol::report::{GuestPhase, Report, Resource, Sshd};

use super::build_log::BuildLog;
use super::clock::Clock;
use super::console_log::ConsoleLog;
use super::lack::Lack;
use super::outcome::Reason;
use super::signs::{Means, Signs};
use crate::failed_builds::Taken;
use crate::kiwi_log::{Lines, Phase, Pulse, phase_of_log_line};
use crate::output_dir::ResultCode;
use crate::terminal::Session;
use crate::timeline::{Milestone, Recorder, Timeline};

/// How often the log is looked at when the machine says nothing: until there is a first line,
/// whose time matters, and later.
const FIRST_TICK: Duration = Duration::from_millis(20);
const TICK: Duration = Duration::from_millis(200);

/// Pieces of the log that are read before a report of the guest counts, at most: what the guest wrote
/// before it is part of the phase that the report ends.
const MOST_PIECES: usize = 16;

/// When a machine has run for too long.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Limits {
    /// From its start.
    pub(super) total: Option<Duration>,
    /// Without a sign of life.
    pub(super) idle: Option<Duration>,
}

/// What the guest has reported on its control port.
#[derive(Debug, Default)]
struct GuestReports {
    lines: Lines,
    pulse: Pulse,
    /// It reports phases, so that a missing end means something.
    has_phases: bool,
    exit: Option<i32>,
    /// It has nothing left to do but to power off.
    done: bool,
    unfit: Option<String>,
}

/// Everything observed of a running machine.
pub(super) struct Monitor<'a> {
    progress: &'a mut dyn Reporter,
    started: Instant,
    limits: Limits,
    last_life: Instant,
    phases: Vec<(Phase, Instant)>,
    /// A build runs in the machine, not only a shell.
    builds: bool,
    log: BuildLog,
    console: ConsoleLog,
    reports: GuestReports,
    recorder: Recorder,
    came_up: bool,
    /// What the box may lack.
    signs: Signs,
    clock: Option<Clock>,
    /// The phase that failed, if the guest went on after it.
    failed: Option<Phase>,
    /// There is more of the log to read.
    behind: bool,
    /// The build is one of which a checkpoint is taken.
    takes_checkpoint: bool,
    /// The guest waits for a checkpoint of its disk.
    wants_checkpoint: bool,
    /// What came of that.
    taken: Taken,
    /// The command that leads into the box, until the box has told whether it does.
    ssh: Option<String>,
}

impl<'a> Monitor<'a> {
    /// Monitors a machine that starts now and writes its log into the
    /// folder `log`, if there is one. `ssh` is the command that
    /// leads into the box, if a port does.
    pub(super) fn new(
        log: Option<Dir>,
        limits: Limits,
        ssh: Option<String>,
        progress: &'a mut dyn Reporter,
    ) -> Monitor<'a> {
        let now = Instant::now();
        Monitor {
            progress,
            started: now,
            limits,
            last_life: now,
            phases: vec![(Phase::Boot, now)],
            builds: log.is_some(),
            log: BuildLog::new(log),
            console: ConsoleLog::new(),
            reports: GuestReports::default(),
            recorder: Recorder::of_this_process(),
            came_up: false,
            signs: Signs::default(),
            clock: Some(Clock::default()),
            failed: None,
            behind: false,
            takes_checkpoint: false,
            wants_checkpoint: false,
            taken: Taken::No,
            ssh,
        }
    }

    /// How long to wait for the machine to say something before the log is looked at.
    pub(super) fn tick(&self) -> Duration {
        if self.behind {
            Duration::ZERO
        } else if self.log.is_empty() {
            FIRST_TICK
        } else {
            TICK
        }
    }

    /// Where the run is reported.
    pub(super) fn progress(&mut self) -> &mut dyn Reporter {
        self.progress
    }

    /// Takes what the guest wrote to its console.
    pub(super) fn console(&mut self, bytes: &[u8]) {
        self.last_life = Instant::now();
        let mut bundles = false;
        let (progress, signs) = (&mut self.progress, &mut self.signs);
        self.console.push(bytes, |line| {
            // A guest without a control port bundles with another kiwi, whose log this is.
            bundles |= phase_of_log_line(line) == Some(Phase::Bundle);
            signs.line(line);
            progress.line(line);
        });
        if bundles {
            self.catch_up();
            if self.reached(Phase::Create) {
                self.enter(Phase::Bundle);
            }
        }
    }

    /// Takes what the guest wrote to its control port.
    pub(super) fn control(&mut self, bytes: &[u8]) {
        let mut lines = std::mem::take(&mut self.reports.lines);
        lines.push(bytes, |line| {
            if let Some(report) = Report::parse(line) {
                self.recorder.report(&report);
                self.report(report);
            }
        });
        self.reports.lines = lines;
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Phase(GuestPhase::Setup) => {
                self.last_life = Instant::now();
                self.came_up = true;
                if let Some(clock) = &mut self.clock {
                    clock.follows();
                }
            }
            Report::Phase(phase) => {
                self.reports.has_phases = true;
                self.last_life = Instant::now();
                self.reports.done |= phase == GuestPhase::Done;
                let phase = phase.into();
                if phase > Phase::Prepare && !self.reached(phase) {
                    self.catch_up();
                }
                self.enter(phase);
            }
            Report::Mark(step, time) => self.progress.line(&format!(
                "boxbuild: {step} after {:.3} s in the box",
                time.as_secs_f64()
            )),
            Report::Unfit(reason) => self.reports.unfit = Some(reason.to_string()),
            Report::Beat(ticks) => {
                if self.reports.pulse.beat(ticks) {
                    self.last_life = Instant::now();
                }
            }
            Report::Exit(code) => {
                if self.reports.exit.is_none() {
                    self.catch_up();
                }
                self.reports.exit = Some(code);
            }
            Report::Sshd(sshd) => self.sshd(sshd),
            Report::CheckpointWanted => self.wants_checkpoint = true,
            Report::Exhausted(resource) => {
                self.signs.report(resource);
                if resource == Resource::WorkingMemory {
                    self.progress.note(
                        "the programs of the box mostly wait for memory: give it more with --box-memory",
                    );
                }
            }
        }
    }

    /// Takes a checkpoint by `take` if the guest waits for one. Returns whether there is one, which the guest is
    /// to be told. The first counts: what the guest has written since is its own. A guest that was not to ask
    /// gets none.
    pub(super) fn checkpoint(
        &mut self,
        take: impl FnOnce() -> std::io::Result<bool>,
    ) -> Option<bool> {
        if !std::mem::take(&mut self.wants_checkpoint) {
            return None;
        }
        if !self.takes_checkpoint || self.taken != Taken::No {
            return Some(false);
        }
        self.taken = match take() {
            Ok(true) => Taken::Yes(SystemTime::now()),
            Ok(false) => Taken::Failed(String::from("its machine has no disk of its own")),
            Err(error) => {
                self.progress.note(&format!(
                    "the build cannot be resumed if it fails: no checkpoint of the disk of the box: {error}"
                ));
                Taken::Failed(format!("no checkpoint of its disk could be taken: {error}"))
            }
        };
        Some(matches!(self.taken, Taken::Yes(_)))
    }

    /// What came of the checkpoint.
    pub(super) fn taken(&self) -> &Taken {
        &self.taken
    }

    /// The guest says whether it has an sshd; the words are ours, and are shown once.
    fn sshd(&mut self, sshd: Sshd) {
        let Some(command) = self.ssh.take() else {
            return;
        };
        self.progress.note(&match sshd {
            Sshd::Ready => format!("the box is open: {command}"),
            Sshd::None => String::from(
                "--ssh-port: the box has no sshd: install openssh-server in it, or add one in \
                 boxroot/ of the description",
            ),
            Sshd::Failed => String::from(
                "--ssh-port: the sshd of the box does not start; its console says why (--verbose)",
            ),
        });
    }

    /// Whether the guest has come to `phase`, or beyond.
    pub(super) fn reached(&self, phase: Phase) -> bool {
        self.phases.last().is_some_and(|(last, _)| *last >= phase)
    }

    /// Notes a moment of the run.
    pub(super) fn reach(&mut self, milestone: Milestone) {
        self.recorder.reach(milestone);
    }

    /// The machine runs.
    pub(super) fn powered_on(&mut self, times: Option<StartTimes>) {
        let first = times.as_ref().map(|times| times.first_instruction);
        let steps = times.map_or_else(Vec::new, |times| times.steps);
        self.recorder.powered_on(&steps, first);
    }

    /// Samples what the machine uses, if it is time to.
    pub(super) fn sample(&mut self, usage: impl FnOnce() -> Usage) {
        let console = &mut self.console;
        self.recorder.sample(|| {
            let usage = usage();
            console.has_used(usage.processor);
            usage
        });
    }

    /// The build's exit code, if the guest has told it.
    pub(super) fn exit_code(&self) -> Option<i32> {
        self.reports.exit
    }

    /// Whether the box came up: what fails then is the build.
    pub(super) fn came_up(&self) -> bool {
        self.came_up
    }

    /// Whether the guest had nothing left to do, as far as it reports that.
    pub(super) fn is_done(&self) -> bool {
        self.reports.done || !self.reports.has_phases
    }

    /// The build had come to its end when the user stopped the machine.
    pub(super) fn was_left(&mut self) {
        self.reports.done = true;
    }

    /// The end of what the box wrote to its console.
    pub(super) fn transcript(&self) -> &str {
        self.console.transcript()
    }

    /// Shows a line that the user must see, and keeps it with the console.
    pub(super) fn note(&mut self, text: &str, session: Option<&Session>) {
        self.console.note(text);
        match session {
            Some(session) => session.say(text),
            None => self.progress.note(text),
        }
    }

    /// Looks at the log: a piece of what is new.
    pub(super) fn look(&mut self) {
        let gained = self.with_log(|log, show| log.poll(show));
        self.behind = gained.more;
        if gained.grown {
            self.last_life = Instant::now();
        }
    }

    /// Looks at what the guest had written to the log when it reported something.
    fn catch_up(&mut self) {
        for _ in 0..MOST_PIECES {
            self.look();
            if !self.behind {
                break;
            }
        }
    }

    /// Has `read` call a function for each line of the log.
    fn with_log<T>(&mut self, read: impl FnOnce(&mut BuildLog, &mut dyn FnMut(&str)) -> T) -> T {
        let mut log = std::mem::take(&mut self.log);
        let result = read(&mut log, &mut |line| self.log_line(line));
        self.log = log;
        result
    }

    fn log_line(&mut self, line: &str) {
        self.signs.line(line);
        self.recorder.reach(Milestone::FirstLine);
        if let Some(phase) = phase_of_log_line(line) {
            self.enter(phase);
        }
        self.progress.log_line(line);
        if line.starts_with("[ INFO") {
            let message = line.split_once(" | ").map_or(line, |(_, message)| message);
            self.progress.detail(message);
        }
    }

    /// Phases only go forward: a log line can come later than the report that overtook it.
    fn enter(&mut self, phase: Phase) {
        self.came_up |= matches!(phase, Phase::Prepare | Phase::Create | Phase::Bundle);
        if self.reached(phase) {
            return;
        }
        if matches!(phase, Phase::Shell | Phase::PowerOff) && self.current_phase_failed() {
            self.failed = self.phases.last().map(|(phase, _)| *phase);
            self.progress.finish(false);
        }
        self.phases.push((phase, Instant::now()));
        match phase {
            Phase::Create => self.recorder.reach(Milestone::Create),
            Phase::Bundle => self.recorder.reach(Milestone::Bundle),
            Phase::PowerOff => self.recorder.reach(Milestone::PowerOff),
            Phase::Boot | Phase::Prepare | Phase::Shell => {}
        }
        self.progress.begin(phase.name());
    }

    /// Whether the current phase failed, given that the guest does nothing more for the build.
    fn current_phase_failed(&self) -> bool {
        self.builds && !self.reached(Phase::Shell) && self.reports.exit != Some(0)
    }

    /// The phase in which a build failed that has no result, and ends the progress of the last one.
    pub(super) fn finish_failed(&mut self) -> Phase {
        self.progress.finish(self.failed.is_some());
        let last = self.phases.last().map(|(phase, _)| *phase);
        self.failed.or(last).unwrap_or(Phase::Boot)
    }

    /// Whether the guest has come to kiwi: what it leaves is of a build.
    pub(super) fn reached_kiwi(&self) -> bool {
        let of_kiwi = [Phase::Prepare, Phase::Create, Phase::Bundle];
        !self.log.is_empty() || self.phases.iter().any(|(phase, _)| of_kiwi.contains(phase))
    }

    /// Why the machine is to be stopped. Limits of time count unless `untimed`.
    pub(super) fn reason_to_stop(&self, interrupt: &Interrupt, untimed: bool) -> Option<Reason> {
        if interrupt.count() > 0 {
            return Some(Reason::Interrupted);
        }
        if untimed {
            return None;
        }
        let over = |limit: Option<Duration>, since: Instant| {
            limit.filter(|limit| since.elapsed() >= *limit)
        };
        over(self.limits.total, self.started)
            .map(Reason::Timeout)
            .or_else(|| over(self.limits.idle, self.last_life).map(Reason::Hung))
            .or_else(|| self.console.lockup().map(Reason::Lockup))
    }

    /// The machine has `number` processors.
    pub(super) fn has_processors(&mut self, number: u32) {
        self.console.has_processors(number);
    }

    /// A checkpoint of the box's disk is taken when the box asks for it.
    pub(super) fn takes_checkpoint(&mut self) {
        self.takes_checkpoint = true;
    }

    /// The box has a time of its own.
    pub(super) fn holds_clock(&mut self) {
        self.clock = Some(Clock::held());
    }

    /// The box has the kernel of this host, and with it the clock: it is a container.
    pub(super) fn shares_kernel(&mut self) {
        self.clock = None;
    }

    /// The time that the guest is to be told, if it is: its clock does not follow the host's.
    pub(super) fn time_to_tell(&mut self) -> Option<Duration> {
        let clock = self.clock.as_mut()?;
        let time = clock.time_to_tell();
        if let Some(moved) = clock.moved_untold().filter(|_| self.came_up) {
            self.progress.note(&format!(
                "the clock of this host has moved by {}: a box that is booted by its own init is not told \
                 of that (--boot fast)",
                seconds(moved)
            ));
        }
        time
    }

    /// Whether the guest has not said a word.
    pub(super) fn is_silent(&self) -> bool {
        !self.came_up
            && !self.reports.has_phases
            && self.reports.unfit.is_none()
            && self.log.is_empty()
            && self.console.transcript().is_empty()
    }

    /// What the box lacked, if that is behind `reason`.
    pub(super) fn lack(&self, reason: &Reason, means: Means<'_>) -> Option<Lack> {
        self.signs.explain(reason, means)
    }

    /// Takes what came last.
    pub(super) fn end(&mut self) {
        self.with_log(|log, show| log.end(show));
        let progress = &mut self.progress;
        self.console.finish(|line| progress.line(line));
    }

    /// Why the build has no result, or `None` if it has one. Only a guest that powered off
    /// itself *and* left a code of 0 has one.
    pub(super) fn verdict(&self, ended: &Ended, code: &ResultCode) -> Option<Reason> {
        if let Ended::Failed(text) = ended {
            return Some(Reason::Engine(text.clone()));
        }
        if let Some(reason) = &self.reports.unfit {
            return Some(Reason::Unfit(reason.clone()));
        }
        if let Some(panic) = self.console.panic() {
            return Some(Reason::Panic(panic));
        }
        let broke_off = self.reports.has_phases && !self.reports.done;
        match (ended, code) {
            (Ended::PoweredOff, _) if broke_off => Some(Reason::EarlyPowerOff),
            (Ended::PoweredOff, ResultCode::Code(0)) => None,
            (Ended::PoweredOff, ResultCode::Code(code)) => Some(Reason::Kiwi(*code)),
            (Ended::PoweredOff, ResultCode::Missing)
                if self.is_silent() && self.clock.is_some() =>
            {
                Some(Reason::SilentPowerOff)
            }
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

    /// When the machine was started.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Time since the start.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// How long each phase took, in order.
    pub(super) fn phases(&self) -> Vec<(Phase, Duration)> {
        let end = Instant::now();
        let ends = self.phases.iter().skip(1).map(|(_, at)| *at).chain([end]);
        self.phases
            .iter()
            .zip(ends)
            .map(|((phase, start), end)| (*phase, end.duration_since(*start)))
            .collect()
    }

    /// The last lines that matter for `reason`.
    pub(super) fn last_lines(&self, reason: &Reason) -> Vec<String> {
        match reason {
            Reason::Interrupted => Vec::new(),
            Reason::Kiwi(_) | Reason::Lack(_) if !self.log.is_empty() => {
                self.log.errors_or_last_lines()
            }
            Reason::Timeout(_) if !self.log.is_empty() => self.log.last_lines(),
            _ => self.console.last_lines(),
        }
    }

    /// Where the time went.
    pub(super) fn into_timeline(self) -> Timeline {
        self.recorder.finish()
    }
}

#[cfg(test)]
mod tests;
