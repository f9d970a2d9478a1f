//! One build of a batch: a boxbuild of its own, and what it says.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::check::Ready;
use crate::exit_code::ExitCode;
use boxbuild_core::kiwi_log::{Lines, Phase, phase_of_log_line};
use boxbuild_host::reaper::die_with_parent;

/// This program, even if its file has been replaced since it was started.
const SELF: &str = "/proc/self/exe";

/// How long a build's output may stay open when the build itself has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lines of a build's last words that are kept.
const LAST_WORDS: usize = 40;

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

/// What comes from the builds.
#[derive(Debug)]
pub(super) enum Said {
    /// A line of a build (its number in the batch).
    Line(usize, Stream, String),
    /// One of its two streams has ended.
    Closed(usize),
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The image is there.
    Built,
    /// It ended with this exit code of boxbuild's.
    Failed(ExitCode),
    /// A signal killed the process.
    Killed(i32),
    /// It was stopped, by the user or because another one failed.
    Stopped,
    /// It was never started.
    NotStarted,
}

/// A build that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// Its number in the batch.
    pub(super) number: usize,
    pub(super) started: Instant,
    pub(super) story: Story,
    process: Child,
    readers: Vec<JoinHandle<()>>,
    open: usize,
    log: Option<File>,
    /// Somebody told it to stop.
    stopped: bool,
    ended: Option<(ExitStatus, Instant)>,
}

impl Running {
    /// Starts the build. Lines go to `sender`, and into the file `log`.
    ///
    /// Must be called on a thread that lives as long as the build shall: it is told to stop when
    /// that thread ends (PR_SET_PDEATHSIG).
    pub(super) fn start(
        number: usize,
        build: &Ready,
        log: &Path,
        sender: &SyncSender<Said>,
    ) -> io::Result<Running> {
        let log = File::create(log)?;
        let mut command = Command::new(SELF);
        command
            .arg0("boxbuild")
            // Everything goes into the log, and from there we know where it is.
            .arg("--verbose")
            .args(&build.argv)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal is for the batch, which hands it on once.
            .process_group(0);
        die_with_parent(&mut command, Signal::SIGTERM);
        let mut process = command.spawn()?;
        let streams: [(Stream, Option<Box<dyn Read + Send>>); 2] = [
            (Stream::Out, process.stdout.take().map(|s| Box::new(s) as _)),
            (Stream::Err, process.stderr.take().map(|s| Box::new(s) as _)),
        ];
        // From here on, an error stops it.
        let mut running = Running {
            number,
            started: Instant::now(),
            story: Story::default(),
            process,
            readers: Vec::new(),
            open: 0,
            log: Some(log),
            stopped: false,
            ended: None,
        };
        for (stream, pipe) in streams {
            let Some(pipe) = pipe else { continue };
            let sender = sender.clone();
            running.readers.push(
                std::thread::Builder::new()
                    .name(String::from("reader"))
                    .spawn(move || follow(number, stream, pipe, &sender))?,
            );
            running.open += 1;
        }
        Ok(running)
    }

    /// Takes a line of it.
    pub(super) fn line(&mut self, stream: Stream, text: &str) -> Option<Step> {
        if let Some(log) = &mut self.log
            && writeln!(log, "{text}").is_err()
        {
            // A full disk is no reason to end a build whose target may be on another one.
            self.log = None;
            self.story.log_lost = true;
        }
        self.story.line(stream, text)
    }

    /// One of its streams has ended.
    pub(super) fn closed(&mut self) {
        self.open -= 1;
    }

    /// Tells it to stop; a second time, to stop at once.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
        if self.ended.is_none()
            && let Ok(pid) = i32::try_from(self.process.id())
        {
            // An error means that it is gone already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }

    /// How it ended, once it has and everything that it said has been taken.
    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        if self.ended.is_none()
            && let Ok(Some(status)) = self.process.try_wait()
        {
            self.ended = Some((status, Instant::now()));
        }
        let (status, since) = self.ended?;
        // What a build leaves behind must not keep the batch from ending.
        if self.open > 0 && since.elapsed() < PATIENCE {
            return None;
        }
        if self.open == 0 {
            for reader in self.readers.drain(..) {
                // A reader that panicked has said so; its line is what is missing.
                let _ = reader.join();
            }
        }
        Some(match (status.code(), status.signal()) {
            (Some(0), _) => Verdict::Built,
            (Some(130), _) if self.stopped => Verdict::Stopped,
            // It had not come as far as to take the signal over.
            (None, Some(libc::SIGINT)) if self.stopped => Verdict::Stopped,
            (Some(code), _) => {
                Verdict::Failed(ExitCode::of_run(u8::try_from(code).unwrap_or(u8::MAX)))
            }
            (None, signal) => Verdict::Killed(signal.unwrap_or(0)),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.stop();
            let _ = self.process.wait();
        }
    }
}

/// Reads one stream to its end.
fn follow(number: usize, stream: Stream, mut pipe: impl Read, sender: &SyncSender<Said>) {
    let mut lines = Lines::default();
    let mut buffer = [0; 8 << 10];
    let send = |text: &str| {
        // Nobody listens any more: the batch is over.
        let _ = sender.send(Said::Line(number, stream, text.to_owned()));
    };
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => lines.push(&buffer[..count], send),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    if let Some(rest) = lines.rest() {
        send(&rest);
    }
    let _ = sender.send(Said::Closed(number));
}

/// What is known of a build from its lines.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// The phase it is in.
    pub(super) phase: Option<Phase>,
    /// What it printed on standard output: the result files and the figures.
    pub(super) results: Vec<String>,
    /// What it said last of its own failure.
    pub(super) last_words: Vec<String>,
    /// Its log could not be written to the end.
    pub(super) log_lost: bool,
}

/// What a line tells of a build's progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A phase is over: the line that says so.
    Done(String),
    /// A phase has begun.
    Phase(Phase),
    /// What kiwi is at.
    Detail(String),
}

impl Story {
    fn line(&mut self, stream: Stream, text: &str) -> Option<Step> {
        if stream == Stream::Out {
            self.results.push(text.to_owned());
            return None;
        }
        // What a failed build ends with: lines of its log, then the reason and hints.
        let words = text.starts_with("  | ") || text.starts_with("boxbuild: ");
        if words || (text.starts_with("  ") && !self.last_words.is_empty()) {
            if self.last_words.len() < LAST_WORDS {
                self.last_words.push(text.to_owned());
            }
            return None;
        }
        self.last_words.clear();
        if text.starts_with("✓ ") || text.starts_with("✗ ") {
            return Some(Step::Done(text.to_owned()));
        }
        if let Some(phase) = phase_of_log_line(text)
            && self.phase.is_none_or(|current| current < phase)
        {
            self.phase = Some(phase);
            return Some(Step::Phase(phase));
        }
        let message = text.strip_prefix("[ INFO")?.split_once(" | ")?.1;
        Some(Step::Detail(message.to_owned()))
    }

    /// The reason of a failure on one line.
    pub(super) fn reason(&self) -> Option<&str> {
        self.last_words
            .iter()
            .rev()
            .find_map(|line| line.strip_prefix("boxbuild: "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_story() {
        let mut story = Story::default();
        let mut line = |text: &str| story.line(Stream::Err, text);
        assert_eq!(line("Linux version 6.12"), None);
        assert_eq!(
            line("✓ boot           7.1 s"),
            Some(Step::Done("✓ boot           7.1 s".into()))
        );
        assert_eq!(
            line("[ INFO    ]: 00:00:00 | Setup root directory: /result"),
            Some(Step::Phase(Phase::Prepare))
        );
        assert_eq!(
            line("[ INFO    ]: 00:00:01 | Installing packages"),
            Some(Step::Detail("Installing packages".into()))
        );
        line("  | something that looks like it");
        assert_eq!(line("[ DEBUG   ]: more"), None);
        line("  | KiwiError: no package foo");
        line("boxbuild: the build failed in the box (kiwi's exit code 7)");
        line("  the log is /x/result.log");
        assert_eq!(
            story.reason(),
            Some("the build failed in the box (kiwi's exit code 7)")
        );
        assert_eq!(story.last_words.len(), 3);
        story.line(Stream::Out, "/x/image  3 B");
        assert_eq!(story.results, ["/x/image  3 B"]);
    }
}
