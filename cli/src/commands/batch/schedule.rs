//! Runs the builds of a batch in their order, as many at once as the host, or its runner, has room for.

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
use super::attempt::Attempt;
use super::attempts::Next;
use super::build_progress::BuildProgress;
use super::check::CheckedBuild;
use super::child::{ChildEvent, RunningBuild};
use super::child_output::ChildOutput;
use super::display::Display;
use super::outcome::{Outcome, Verdict};
use super::placement::{Place, Placement};
use super::record::Record;
use super::setback::{Ended, Setback};
use crate::commands::worker::protocol::WorkerEvent;
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
    /// Builds with a record of results are not built again.
    pub(super) resume: bool,
    /// Folder for the logs.
    pub(super) log_dir: PathBuf,
    /// The same, opened before any guest ran.
    pub(super) logs: Dir,
}

/// Runs all builds. Returns their outcomes, in the same order.
pub(super) fn run(
    builds: &[CheckedBuild],
    rules: &Rules,
    placement: &mut Placement<'_>,
    interrupt: &Interrupt,
    display: &mut Display,
) -> Vec<Outcome> {
    let (sender, events) = mpsc::sync_channel(EVENTS);
    let mut schedule = Schedule {
        builds,
        rules,
        placement,
        display,
        outcomes: builds.iter().map(|_| None).collect(),
        waiting: (0..builds.len()).collect(),
        running: Vec::new(),
        logs: builds.iter().map(|_| None).collect(),
        begun: builds.iter().map(|_| None).collect(),
        stopping: false,
    };
    if rules.resume {
        schedule.resume();
    }
    let mut interrupts = 0;
    loop {
        // Before anything is started: the user may want to stop since before.
        let asked = interrupt.count();
        if asked > interrupts {
            schedule.interrupt(asked - interrupts);
            interrupts = asked;
        }
        schedule.start(&sender);
        if schedule.running.is_empty() && (schedule.waiting.is_empty() || schedule.stopping) {
            break;
        }
        schedule.take_events(&events);
        schedule.collect(&sender);
    }
    let outcomes = schedule.outcomes.into_iter();
    outcomes
        .map(|outcome| outcome.unwrap_or_else(Outcome::not_started))
        .collect()
}

/// The state of a batch that runs. Builds are known by their numbers.
struct Schedule<'a, 'r> {
    builds: &'a [CheckedBuild],
    rules: &'a Rules,
    placement: &'a mut Placement<'r>,
    display: &'a mut Display,
    outcomes: Vec<Option<Outcome>>,
    waiting: Vec<usize>,
    running: Vec<RunningBuild>,
    /// The logs of builds that were begun.
    logs: Vec<Option<File>>,
    /// When the first attempt at each was begun.
    begun: Vec<Option<Instant>>,
    /// No more builds are started.
    stopping: bool,
}

impl Schedule<'_, '_> {
    /// Takes the outcomes of builds that an earlier batch has built.
    fn resume(&mut self) {
        for (number, build) in self.builds.iter().enumerate() {
            let Some(record) = Record::read(&self.rules.logs, build) else {
                continue;
            };
            if record.stands_for(build) {
                self.waiting.retain(|waiting| *waiting != number);
                let outcome = record.into_outcome();
                self.display.ended(number, &outcome);
                self.outcomes[number] = Some(outcome);
            } else if record.is_unfinished() {
                self.placement.may_still_run(number);
            }
        }
    }

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
            match self.placement.choose(number, self.running.len()) {
                Place::Wait => place += 1,
                Place::Nowhere(reason) => {
                    self.waiting.remove(place);
                    self.end(number, self.not_carried_out(number, reason));
                }
                Place::Here => {
                    self.waiting.remove(place);
                    self.begin(number, None, sender);
                }
                Place::Host(host) => {
                    self.waiting.remove(place);
                    self.begin(number, host.as_deref(), sender);
                }
            }
        }
    }

    /// Starts a build, here or on a host.
    fn begin(&mut self, number: usize, host: Option<&str>, sender: &SyncSender<ChildEvent>) {
        let build = &self.builds[number];
        let first = self.begun[number].is_none();
        let start = self.placement.start(number, build, host);
        let started = self.log_of(number).and_then(|log| match start? {
            Some(start) => RunningBuild::start_remote(number, start, log, sender),
            None => RunningBuild::start(number, build, log, sender),
        });
        match started {
            Ok(started) => {
                self.begun[number].get_or_insert(started.started);
                self.running.push(started);
                if first {
                    let log = log_path(&self.rules.log_dir, build);
                    self.write_record(&Record::running(build, &log));
                    self.display.started(number);
                }
                if let Some(host) = host {
                    let attempt = self.placement.attempts(number).ended.len() + 1;
                    self.display.placed(number, host, attempt);
                }
            }
            Err(error) => {
                self.placement.free(host);
                let log = log_path(&self.rules.log_dir, build);
                let reason = format!(
                    "cannot start the build or write its log {}: {error}",
                    log.display()
                );
                self.end(number, self.not_carried_out(number, reason));
            }
        }
    }

    /// The log of a build, which all attempts at it share.
    fn log_of(&mut self, number: usize) -> io::Result<File> {
        if self.logs[number].is_none() {
            self.logs[number] = Some(new_log(&self.rules.logs, &self.builds[number])?);
        }
        match &self.logs[number] {
            Some(log) => log.try_clone(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The outcome of a build that no host has carried out.
    fn not_carried_out(&self, number: usize, reason: String) -> Outcome {
        let begun = self.begun[number];
        let log = log_path(&self.rules.log_dir, &self.builds[number]);
        Outcome {
            verdict: Verdict::Failed(ExitCode::HOST),
            time: begun.map_or(Duration::ZERO, |begun| begun.elapsed()),
            progress: BuildProgress::not_started(reason),
            log: begun.map(|_| log),
            host: None,
            attempts: self.placement.attempts(number).ended.clone(),
            before: false,
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
            let ChildEvent { id, output } = match events.recv_timeout(time_left) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            };
            // The output of a process that counts as ended comes too late.
            let Some(build) = self.running.iter_mut().find(|it| it.id == id) else {
                continue;
            };
            let number = build.number;
            match output {
                ChildOutput::Event(event) => {
                    let lines = text::lines(&event);
                    build.take_event(&event, &lines);
                    self.display.event(number, &event, &lines);
                }
                ChildOutput::Worker(event) => self.take_worker(number, event),
                ChildOutput::Line(line) => {
                    build.take_line(&line);
                    self.display.line(number, &line);
                }
                ChildOutput::Closed => {
                    build.stream_closed();
                    return;
                }
            }
        }
    }

    fn take_worker(&mut self, number: usize, event: WorkerEvent) {
        let Some(build) = self.running.iter_mut().find(|it| it.number == number) else {
            return;
        };
        let known = build.host().map(str::to_owned);
        let begins = build.take_worker(event);
        let host = build.host().map(str::to_owned);
        let Some(host) = host else { return };
        if known.is_none() {
            let attempt = self.placement.attempts(number).ended.len() + 1;
            self.display.placed(number, &host, attempt);
        }
        if begins {
            build.write_log(&format!("boxbuild: on {host}"));
            self.placement.good(&host);
        }
    }

    /// Collects the outcomes of builds that have ended.
    fn collect(&mut self, sender: &SyncSender<ChildEvent>) {
        let mut place = 0;
        while place < self.running.len() {
            let Some(ended) = self.running[place].ended() else {
                place += 1;
                continue;
            };
            if !self.running[place].is_tested() {
                self.placement.free(self.running[place].host());
            }
            let ended = match (self.start_test(place, &ended, sender), ended) {
                (Some(Ok(())), _) => {
                    place += 1;
                    continue;
                }
                (Some(Err(error)), _) => {
                    let reason = format!("cannot start the test of the image: {error}");
                    self.running[place].progress = BuildProgress::not_started(reason);
                    Ended::Verdict(Verdict::Failed(ExitCode::HOST))
                }
                (None, ended) => ended,
            };
            let build = self.running.remove(place);
            match ended {
                Ended::Verdict(verdict) => self.conclude(build, verdict),
                Ended::Setback(setback) => self.set_back(build, &setback),
            }
        }
    }

    /// Takes the verdict on a build.
    fn conclude(&mut self, mut build: RunningBuild, verdict: Verdict) {
        let number = build.number;
        let host = build.host().map(str::to_owned);
        let begun = self.begun[number].unwrap_or(build.started);
        let progress = std::mem::take(&mut build.progress);
        let mut attempts = self.placement.attempts(number).ended.clone();
        if self.placement.is_elsewhere() {
            attempts.push(Attempt {
                host: host.clone(),
                result: verdict.word().to_owned(),
                reason: progress.reason.clone(),
                seconds: build.started.elapsed().as_secs_f64(),
            });
        }
        let outcome = Outcome {
            verdict,
            time: begun.elapsed(),
            progress,
            log: Some(log_path(&self.rules.log_dir, &self.builds[number])),
            host,
            attempts,
            before: false,
        };
        self.end(number, outcome);
    }

    /// Takes an attempt that says nothing about the build itself.
    fn set_back(&mut self, mut build: RunningBuild, setback: &Setback) {
        let number = build.number;
        let host = build.host().map(str::to_owned);
        let time = build.started.elapsed();
        let next = self
            .placement
            .set_back(number, setback, host.as_deref(), time);
        let again = match next {
            Next::Again(wait) if !self.stopping => Some(wait),
            _ => None,
        };
        let place = host.as_deref().unwrap_or("the runner");
        build.write_log(&format!(
            "boxbuild: {place}: {}: {}",
            setback.kind.word(),
            setback.reason
        ));
        let attempt = self.placement.attempts(number).ended.len();
        self.display
            .set_back(number, host.as_deref(), setback, attempt, again);
        if again.is_some() {
            // In the order of the file.
            let place = self.waiting.partition_point(|waiting| *waiting < number);
            self.waiting.insert(place, number);
        } else if self.stopping {
            self.conclude(build, Verdict::Stopped);
        } else {
            let reason = self.placement.reason(number);
            let mut outcome = self.not_carried_out(number, reason);
            outcome.host = host;
            self.end(number, outcome);
        }
    }

    /// Starts the test of a build that has `ended`, if it is to be tested now.
    fn start_test(
        &mut self,
        place: usize,
        ended: &Ended,
        sender: &SyncSender<ChildEvent>,
    ) -> Option<io::Result<()>> {
        let build = &mut self.running[place];
        let test = self.builds[build.number].test.as_ref()?;
        let is_built = *ended == Ended::Verdict(Verdict::Built);
        let due = is_built && !build.is_tested() && !self.stopping;
        due.then(|| build.start_test(test, sender))
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        self.display.ended(number, &outcome);
        if self.rules.fail_fast && outcome.verdict != Verdict::Built && !self.stopping {
            self.stop();
        }
        self.write_record(&Record::ended(&self.builds[number], &outcome));
        self.logs[number] = None;
        self.outcomes[number] = Some(outcome);
    }

    /// Writes a record. Without one, a batch that is resumed builds again.
    fn write_record(&self, record: &Record) {
        if let Err(error) = record.write(&self.rules.logs) {
            self.display.note(&format!(
                "cannot write a record into {}: {error}",
                self.rules.log_dir.display()
            ));
        }
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
        // What waits for another attempt was begun, and is stopped now.
        let waiting = std::mem::take(&mut self.waiting);
        for number in waiting {
            if self.begun[number].is_some() {
                let mut outcome = self.not_carried_out(number, self.placement.reason(number));
                outcome.verdict = Verdict::Stopped;
                self.end(number, outcome);
            }
        }
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
