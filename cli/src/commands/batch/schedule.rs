//! Runs the builds of a batch in their order, as many at once as the host has room for.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::umask::umask;
use boxbuild_host::untrusted::Dir;

use super::admission::{Limits, needed};
use super::build_progress::BuildProgress;
use super::check::CheckedBuild;
use super::child::{ChildEvent, RunningBuild};
use super::child_output::ChildOutput;
use super::display::Display;
use super::outcome::{Outcome, Verdict};
use crate::exit_code::ExitCode;
use crate::output::text;

/// Events that may wait to be shown; more, and the builds wait.
const EVENTS: usize = 256;

/// How often builds without events are checked for their end.
const TICK: Duration = Duration::from_millis(100);

/// How a batch is run.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    /// The first failure stops all builds.
    pub(super) fail_fast: bool,
    /// Folder for the logs.
    pub(super) log_dir: PathBuf,
    /// The same, opened before any guest ran.
    pub(super) logs: Dir,
}

/// Runs all builds. Returns their outcomes, in the same order.
pub(super) fn run(
    builds: &[CheckedBuild],
    rules: &Rules,
    interrupt: &Interrupt,
    display: &mut Display,
) -> Vec<Outcome> {
    let (sender, events) = mpsc::sync_channel(EVENTS);
    let mut schedule = Schedule {
        builds,
        rules,
        display,
        outcomes: builds.iter().map(|_| None).collect(),
        waiting: (0..builds.len()).collect(),
        running: Vec::new(),
        stopping: false,
    };
    let mut interrupts = 0;
    loop {
        schedule.start(&sender);
        if schedule.running.is_empty() {
            break;
        }
        schedule.take_events(&events);
        schedule.collect(&sender);
        let asked = interrupt.count();
        if asked > interrupts {
            schedule.interrupt(asked - interrupts);
            interrupts = asked;
        }
    }
    let outcomes = schedule.outcomes.into_iter();
    outcomes
        .map(|outcome| outcome.unwrap_or_else(Outcome::not_started))
        .collect()
}

/// The state of a batch that runs. Builds are known by their numbers.
struct Schedule<'a> {
    builds: &'a [CheckedBuild],
    rules: &'a Rules,
    display: &'a mut Display,
    outcomes: Vec<Option<Outcome>>,
    waiting: Vec<usize>,
    running: Vec<RunningBuild>,
    /// No more builds are started.
    stopping: bool,
}

impl Schedule<'_> {
    /// Starts every waiting build that can run now. One that is too large does not keep a smaller
    /// one behind it waiting.
    fn start(&mut self, sender: &SyncSender<ChildEvent>) {
        let mut place = 0;
        while !self.stopping && place < self.waiting.len() {
            let number = self.waiting[place];
            if !self.can_start(&self.builds[number]) {
                place += 1;
                continue;
            }
            self.waiting.remove(place);
            let build = &self.builds[number];
            let log = log_path(&self.rules.log_dir, build);
            let started = new_log(&self.rules.logs, build)
                .and_then(|file| RunningBuild::start(number, build, file, sender));
            match started {
                Ok(started) => {
                    self.display.started(number);
                    self.running.push(started);
                }
                Err(error) => {
                    let outcome = Outcome {
                        verdict: Verdict::Failed(ExitCode::HOST),
                        time: Duration::ZERO,
                        progress: BuildProgress::not_started(format!(
                            "cannot start the build or write its log {}: {error}",
                            log.display()
                        )),
                        log: None,
                    };
                    self.end(number, outcome);
                }
            }
        }
    }

    /// Returns whether a build can run beside those that run now.
    fn can_start(&self, build: &CheckedBuild) -> bool {
        let running = || self.running.iter().map(|it| &self.builds[it.number]);
        let in_use = running().map(|other| needed(other.memory)).sum();
        !running().any(|other| build.excludes(other))
            && self
                .rules
                .limits
                .allow(self.running.len(), in_use, build.memory)
    }

    /// Takes the events of the builds, for one tick at most: many events must not hide that a build
    /// has ended.
    fn take_events(&mut self, events: &Receiver<ChildEvent>) {
        let deadline = Instant::now() + TICK;
        while let Some(time_left) = deadline.checked_duration_since(Instant::now()) {
            let ChildEvent { number, output } = match events.recv_timeout(time_left) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            };
            // The output of a build that counts as ended comes too late.
            let Some(build) = self.running.iter_mut().find(|it| it.number == number) else {
                continue;
            };
            match output {
                ChildOutput::Event(event) => {
                    let lines = text::lines(&event);
                    build.take_event(&event, &lines);
                    self.display.event(number, &event, &lines);
                }
                ChildOutput::Line(line) => {
                    build.write_log(&line);
                    self.display.line(number, &line);
                }
                ChildOutput::Closed => {
                    build.stream_closed();
                    return;
                }
            }
        }
    }

    /// Collects the outcomes of builds that have ended.
    fn collect(&mut self, sender: &SyncSender<ChildEvent>) {
        let mut place = 0;
        while place < self.running.len() {
            let Some(mut verdict) = self.running[place].verdict() else {
                place += 1;
                continue;
            };
            if let Some(started) = self.start_test(place, verdict, sender) {
                match started {
                    Ok(()) => {
                        place += 1;
                        continue;
                    }
                    Err(error) => {
                        let reason = format!("cannot start the test of the image: {error}");
                        self.running[place].progress = BuildProgress::not_started(reason);
                        verdict = Verdict::Failed(ExitCode::HOST);
                    }
                }
            }
            let mut ended = self.running.remove(place);
            let number = ended.number;
            let outcome = Outcome {
                verdict,
                time: ended.started.elapsed(),
                progress: std::mem::take(&mut ended.progress),
                log: Some(log_path(&self.rules.log_dir, &self.builds[number])),
            };
            self.end(number, outcome);
        }
    }

    /// Starts the test of a build that has ended with `verdict`, if it is to be tested now.
    fn start_test(
        &mut self,
        place: usize,
        verdict: Verdict,
        sender: &SyncSender<ChildEvent>,
    ) -> Option<io::Result<()>> {
        let build = &mut self.running[place];
        let test = self.builds[build.number].test.as_ref()?;
        let due = verdict == Verdict::Built && !build.is_tested() && !self.stopping;
        due.then(|| build.start_test(test, sender))
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        self.display.ended(number, &outcome);
        if self.rules.fail_fast && outcome.verdict != Verdict::Built && !self.stopping {
            self.stop();
        }
        self.outcomes[number] = Some(outcome);
    }

    /// Passes interruptions on to the builds.
    fn interrupt(&mut self, count: usize) {
        // A second one makes a build stop at once; more have no effect.
        for _ in 0..count.min(2) {
            self.stop();
        }
        self.display.stopping(self.running.len());
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.running.iter_mut().for_each(RunningBuild::stop);
    }
}

fn log_path(log_dir: &Path, build: &CheckedBuild) -> PathBuf {
    log_dir.join(log_name(build))
}

fn log_name(build: &CheckedBuild) -> String {
    format!("{}.log", build.name)
}

/// Begins the log of a build, in the place of an earlier one.
fn new_log(logs: &Dir, build: &CheckedBuild) -> io::Result<File> {
    let name = log_name(build);
    logs.remove(OsStr::new(&name))?;
    logs.create(OsStr::new(&name), 0o666 & !umask())
}
