//! Programs that are run to make a box.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reaper::die_with_parent;
use boxbuild_host::text::plain;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::CommandError;
use super::host::Host;

/// Last lines of a program's output that the error about its failure contains.
const LAST_LINES: usize = 15;

/// Time for a program that is stopped to clean up.
const GRACE: Duration = Duration::from_secs(20);

/// Runs programs in the course of making a box, and stops them when the user interrupts it.
#[derive(Debug)]
pub(super) struct Workshop<'a> {
    /// The folder that programs work in.
    pub(super) dir: PathBuf,
    /// The host, which has the programs.
    pub(super) host: &'a Host,
    interrupt: &'a Interrupt,
}

impl<'a> Workshop<'a> {
    /// Returns a workshop in the folder `dir`.
    pub(super) fn new(dir: PathBuf, host: &'a Host, interrupt: &'a Interrupt) -> Workshop<'a> {
        Workshop {
            dir,
            host,
            interrupt,
        }
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

    /// Runs a command to its end; error messages call it `program`.
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
        // On SIGTERM, it cleans up.
        die_with_parent(&mut command, Signal::SIGTERM);
        let mut child = command.spawn().map_err(start_error)?;
        let lines = read_lines(&mut child);
        let mut output = LastLines::default();
        let status = loop {
            while let Ok(line) = lines.try_recv() {
                output.push(line);
            }
            if let Some(status) = child.try_wait().map_err(start_error)? {
                break status;
            }
            if self.interrupt.count() > 0 {
                stop(&mut child);
                return Err(CommandError::Interrupted);
            }
            if let Ok(line) = lines.recv_timeout(Duration::from_millis(100)) {
                output.push(line);
            } else {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        // Lines that the readers still hold. A grandchild that keeps the streams open is not waited
        // for.
        while let Ok(line) = lines.recv_timeout(Duration::from_millis(200)) {
            output.push(line);
        }
        if status.success() {
            return Ok(());
        }
        Err(CommandError::Failed {
            program: program.to_owned(),
            status,
            output: output.0.into(),
        })
    }
}

/// Returns the lines that a child writes to its output streams, fit for a terminal.
fn read_lines(child: &mut Child) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let streams: [Option<Box<dyn io::Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as _),
        child.stderr.take().map(|stream| Box::new(stream) as _),
    ];
    for stream in streams.into_iter().flatten() {
        let copy = sender.clone();
        let reader = std::thread::Builder::new().spawn(move || {
            for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
                if copy.send(plain(&line)).is_err() {
                    break;
                }
            }
        });
        if let Err(error) = reader {
            let _ = sender.send(format!("its output cannot be read: {error}"));
        }
    }
    lines
}

/// The last lines of a program's output that are not empty.
#[derive(Default)]
struct LastLines(VecDeque<String>);

impl LastLines {
    fn push(&mut self, line: String) {
        if line.trim().is_empty() {
            return;
        }
        if self.0.len() == LAST_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }
}

/// Stops a child with its process group: by SIGTERM, and by SIGKILL after [`GRACE`].
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
