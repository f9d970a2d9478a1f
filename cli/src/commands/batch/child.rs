//! The process of one build of a batch.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::build_progress::BuildProgress;
use super::check::CheckedBuild;
use super::child_output::{ChildOutput, read_events, read_lines};
use super::outcome::Verdict;
use super::remote::{Remote, Start};
use super::setback::Ended;
use crate::commands::self_command::self_command;
use crate::commands::worker::protocol::WorkerEvent;
use crate::exit_code::ExitCode;
use crate::output::event::BuildEvent;
use crate::settings::COMPLETE;

/// How long the output of a build may stay open after the build itself has ended.
const OPEN_OUTPUT: Duration = Duration::from_secs(5);

/// Longest log of a build, in bytes. A guest, or another host, can write lines for ever.
const LONGEST_LOG: u64 = 1 << 30;

/// What a build wrote.
#[derive(Debug)]
pub(super) struct ChildEvent {
    /// [`RunningBuild::id`]: an earlier attempt at the same build may have left something behind that
    /// still writes.
    pub(super) id: u64,
    pub(super) output: ChildOutput,
}

/// A build that runs.
#[derive(Debug)]
pub(super) struct RunningBuild {
    /// Of this process: attempts at one build differ by it.
    pub(super) id: u64,
    /// Its number in the batch.
    pub(super) number: usize,
    pub(super) started: Instant,
    pub(super) progress: BuildProgress,
    process: Child,
    readers: Vec<JoinHandle<()>>,
    /// How many of its streams are open.
    open: usize,
    log: Option<File>,
    /// How much may still be written into it.
    log_room: u64,
    /// Its image is under test.
    is_tested: bool,
    /// It was told to stop.
    stopped: bool,
    ended: Option<(ExitStatus, Instant)>,
    /// The line to its worker, if it runs through a runner.
    remote: Option<Remote>,
    /// The host that has built what is tested.
    built_on: Option<String>,
}

impl RunningBuild {
    /// Starts the build. What it writes goes to `sender`; its lines for people, into the file `log`.
    ///
    /// Must be called on a thread that lives as long as the build: the build is told to stop when
    /// that thread ends (PR_SET_PDEATHSIG).
    ///
    /// # Errors
    /// Fails if the process cannot be started.
    pub(super) fn start(
        number: usize,
        build: &CheckedBuild,
        log: File,
        sender: &SyncSender<ChildEvent>,
    ) -> io::Result<RunningBuild> {
        RunningBuild::start_words(number, &words_of(build), Some(log), sender)
    }

    /// Starts the test of what has been built, which is a part of the build, on this host.
    ///
    /// # Errors
    /// Fails if the process cannot be started.
    pub(super) fn start_test(
        &mut self,
        test: &[OsString],
        sender: &SyncSender<ChildEvent>,
    ) -> io::Result<()> {
        let mut words = test.to_vec();
        words.extend(["--json", "--verbose"].map(OsString::from));
        let next = RunningBuild::start_words(self.number, &words, self.log.take(), sender)?;
        let built = std::mem::replace(self, next);
        self.built_on = built.host().map(str::to_owned);
        self.started = built.started;
        self.progress.files.clone_from(&built.progress.files);
        self.is_tested = true;
        Ok(())
    }

    /// Whether its test has been started.
    pub(super) fn is_tested(&self) -> bool {
        self.is_tested
    }

    fn start_words(
        number: usize,
        words: &[OsString],
        log: Option<File>,
        sender: &SyncSender<ChildEvent>,
    ) -> io::Result<RunningBuild> {
        let mut command = self_command(words)?;
        let process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        RunningBuild::attend(number, process, None, log, sender)
    }

    /// Starts the build through a runner.
    ///
    /// # Errors
    /// Fails if the runner's command cannot be started.
    pub(super) fn start_remote(
        number: usize,
        mut start: Start,
        log: File,
        sender: &SyncSender<ChildEvent>,
    ) -> io::Result<RunningBuild> {
        let mut process = start.command.spawn()?;
        let input = process.stdin.take();
        let remote = Remote::begin(start, input)?;
        RunningBuild::attend(number, process, Some(remote), Some(log), sender)
    }

    fn attend(
        number: usize,
        process: Child,
        remote: Option<Remote>,
        log: Option<File>,
        sender: &SyncSender<ChildEvent>,
    ) -> io::Result<RunningBuild> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        // Earlier attempts have written into it as well.
        let written = log.as_ref().and_then(|log| log.metadata().ok());
        let written = written.map_or(0, |found| found.len());
        // From here on, an error stops it.
        let mut running = RunningBuild {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            number,
            started: Instant::now(),
            progress: BuildProgress::default(),
            process,
            readers: Vec::new(),
            open: 0,
            log,
            log_room: LONGEST_LOG.saturating_sub(written),
            is_tested: false,
            stopped: false,
            ended: None,
            remote,
            built_on: None,
        };
        if let Some(pipe) = running.process.stdout.take() {
            let pipe = BufReader::new(pipe);
            running.read(sender, move |take| read_events(pipe, take))?;
        }
        if let Some(pipe) = running.process.stderr.take() {
            running.read(sender, move |take| read_lines(pipe, take))?;
        }
        Ok(running)
    }

    /// The host that it runs on, if that is not this one, as far as it is known.
    pub(super) fn host(&self) -> Option<&str> {
        match &self.remote {
            Some(remote) => remote.heard.host.as_deref(),
            None => self.built_on.as_deref(),
        }
    }

    /// Takes what its worker says of itself. Returns whether its build begins with that, which is once.
    pub(super) fn take_worker(&mut self, event: WorkerEvent) -> bool {
        let Some(remote) = &mut self.remote else {
            return false;
        };
        let before = remote.heard.ready;
        remote.heard.take_worker(event);
        remote.alive();
        remote.heard.ready && !before
    }

    /// Starts a thread that reads one of its streams.
    fn read(
        &mut self,
        sender: &SyncSender<ChildEvent>,
        read: impl FnOnce(&mut dyn FnMut(ChildOutput)) + Send + 'static,
    ) -> io::Result<()> {
        let (id, sender) = (self.id, sender.clone());
        let reader = thread::Builder::new()
            .name(String::from("reader"))
            .spawn(move || {
                read(&mut |output| {
                    // The channel is closed when the batch is over.
                    let _ = sender.send(ChildEvent { id, output });
                });
            })?;
        self.readers.push(reader);
        self.open += 1;
        Ok(())
    }

    /// Takes an event of the build, with its lines for people.
    pub(super) fn take_event(&mut self, event: &BuildEvent, lines: &[String]) {
        if let Some(remote) = &mut self.remote {
            remote.heard.take(event);
            remote.alive();
        }
        self.progress.take(event, lines);
        for line in lines {
            self.write_log(line);
        }
    }

    /// Takes a line that is no event.
    pub(super) fn take_line(&mut self, line: &str) {
        if let Some(remote) = &mut self.remote {
            remote.heard.take_line(line);
        }
        self.write_log(line);
    }

    /// Writes a line into the log.
    pub(super) fn write_log(&mut self, line: &str) {
        let Some(log) = &mut self.log else { return };
        let room = self.log_room.checked_sub(line.len() as u64 + 1);
        let written =
            room.is_some() && writeln!(log, "{}", anstream::adapter::strip_str(line)).is_ok();
        self.log_room = room.unwrap_or(0);
        if !written {
            // A full disk does not end a build whose target may be on another one.
            self.log = None;
            self.progress.log_incomplete = true;
        }
    }

    /// Notes that one of its streams has ended.
    pub(super) fn stream_closed(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// Tells it to stop; a second time, to stop at once.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        if self.ended.is_some() {
            if let Some(remote) = &mut self.remote {
                remote.stop_waiting();
            }
            return;
        }
        if let Some(remote) = &mut self.remote {
            remote.stop(&self.process);
        } else if let Ok(pid) = i32::try_from(self.process.id()) {
            // An error means that it has ended already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }

    /// Returns how it ended, once it has and all of its output has been taken.
    pub(super) fn ended(&mut self) -> Option<Ended> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.process.try_wait()
        {
            self.ended = Some((status, Instant::now()));
        }
        if let (None, Some(remote)) = (self.ended, &mut self.remote) {
            remote.watch(&self.process);
        }
        let (status, since) = self.ended?;
        // A process that it left behind must not keep the batch from ending.
        if self.open > 0 && since.elapsed() < OPEN_OUTPUT {
            return None;
        }
        if self.open == 0 {
            for reader in self.readers.drain(..) {
                // A reader that panicked has printed why; only output is missing.
                let _ = reader.join();
            }
        }
        if let Some(remote) = &mut self.remote {
            let how = match (status.code(), status.signal()) {
                (Some(code), _) => format!("its command ended with exit code {code}"),
                (None, signal) => format!("its command was killed ({})", signal.unwrap_or(0)),
            };
            return remote.conclude(how, status.code());
        }
        Some(Ended::Verdict(match (status.code(), status.signal()) {
            (Some(0), _) => Verdict::Built,
            (Some(130), _) if self.stopped => Verdict::Stopped,
            // It was stopped before it could handle the signal.
            (None, Some(libc::SIGINT)) if self.stopped => Verdict::Stopped,
            (Some(code), _) => {
                Verdict::Failed(ExitCode::of_process(u8::try_from(code).unwrap_or(u8::MAX)))
            }
            (None, signal) => Verdict::Killed(signal.unwrap_or(0)),
        }))
    }
}

/// Returns the command line of a build: it has the settings of this process in it, and its log has every
/// line.
pub(super) fn words_of(build: &CheckedBuild) -> Vec<OsString> {
    let mut words = [COMPLETE, "--json", "--verbose"]
        .map(OsString::from)
        .to_vec();
    words.extend(build.argv.iter().cloned());
    words
}

impl Drop for RunningBuild {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.stop();
            let _ = self.process.wait();
        }
    }
}
