//! Programs run in the course of making a box.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::host::Host;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reaper::die_with_parent;
use boxbuild_host::text::plain;

/// Lines of a program's output that are kept for the report of its failure.
const LAST_LINES: usize = 15;

/// Time that a program gets to clean up when it is stopped.
const GRACE: Duration = Duration::from_secs(20);

/// A program failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It did not start.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{program} failed ({status}):\n{}", .output.join("\n"))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// Its last lines.
        output: Vec<String>,
    },
    /// The user stopped it.
    #[error("interrupted")]
    Interrupted,
}

/// Runs programs, and stops them when the user asks.
#[derive(Debug)]
pub(super) struct Runner<'a> {
    host: &'a Host,
    interrupt: &'a Interrupt,
}

impl<'a> Runner<'a> {
    pub(super) fn new(host: &'a Host, interrupt: &'a Interrupt) -> Runner<'a> {
        Runner { host, interrupt }
    }

    /// Runs `program` to its end.
    pub(super) fn run(
        &self,
        program: &str,
        args: impl IntoIterator<Item = OsString>,
        environment: &[(&str, PathBuf)],
    ) -> Result<(), CommandError> {
        let mut command = Command::new(self.host.find(program).unwrap_or_else(|| program.into()));
        command.args(args).envs(environment.iter().cloned());
        self.run_command(program, command)
    }

    /// Runs a command, which messages call `program`, to its end.
    pub(super) fn run_command(
        &self,
        program: &str,
        mut command: Command,
    ) -> Result<(), CommandError> {
        let start_error = |source| CommandError::Start {
            program: program.to_owned(),
            source,
        };
        command
            .env("PATH", self.host.path())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        // SIGTERM lets it clean up.
        die_with_parent(&mut command, Signal::SIGTERM);
        let mut child = command.spawn().map_err(start_error)?;
        let (sender, lines) = mpsc::channel();
        let streams: [Option<Box<dyn io::Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as _),
            child.stderr.take().map(|stream| Box::new(stream) as _),
        ];
        for stream in streams.into_iter().flatten() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                    if sender.send(plain(&line)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);

        let mut output = VecDeque::new();
        let mut keep = |line: String| {
            if line.trim().is_empty() {
                return;
            }
            if output.len() == LAST_LINES {
                output.pop_front();
            }
            output.push_back(line);
        };
        let status = loop {
            while let Ok(line) = lines.try_recv() {
                keep(line);
            }
            if let Some(status) = child.try_wait().map_err(start_error)? {
                break status;
            }
            if self.interrupt.count() > 0 {
                stop(&mut child);
                return Err(CommandError::Interrupted);
            }
            if let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
                keep(line);
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        // What the readers still hold; a stray grandchild must not keep us waiting for more.
        while let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
            keep(line);
        }
        if status.success() {
            return Ok(());
        }
        Err(CommandError::Failed {
            program: program.to_owned(),
            status,
            output: output.into(),
        })
    }
}

/// Stops a child with its process group: kindly, then for good.
fn stop(child: &mut Child) {
    let Ok(pid) = i32::try_from(child.id()) else {
        return;
    };
    let group = Pid::from_raw(pid);
    let _ = killpg(group, Signal::SIGTERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = killpg(group, Signal::SIGKILL);
    let _ = child.wait();
}
