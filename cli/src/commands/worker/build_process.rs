//! The build of a worker, as a process.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::batch_line::{BatchLine, Heed};
use super::protocol::END_OF_BUILD;
use crate::commands::self_command::self_command;

/// How often is looked at the build and at the batch.
const TICK: Duration = Duration::from_millis(100);

/// How long the output of a build may stay open after the build itself has ended.
const OPEN_OUTPUT: Duration = Duration::from_secs(5);

/// Longest piece of a line that is copied at once, in bytes.
const PIECE: u64 = 4 << 20;

/// Starts a boxbuild with the command line `words`, and copies its events. Returns its exit code. It
/// ends with the batch.
///
/// # Errors
/// Fails if it cannot be started.
pub(super) fn run(
    words: &[OsString],
    batch: &mut BatchLine,
    signals: impl Fn() -> usize,
) -> io::Result<u8> {
    let mut command = self_command(words)?;
    let mut process = command.stdout(Stdio::piped()).spawn()?;
    let copied = process.stdout.take().map(copy).transpose()?;
    let mut end = Ending::default();
    let mut requests = 0;
    let status = loop {
        if let Some(status) = process.try_wait()? {
            break status;
        }
        match batch.listen(TICK) {
            Heed::Lost => end.hurry(&process, Instant::now()),
            Heed::Stop => interrupt(&process),
            Heed::GoOn => {}
        }
        let asked = signals();
        if asked > requests {
            requests = asked;
            interrupt(&process);
        }
    };
    // What it left behind must not keep the worker from ending.
    if let Some(copied) = copied {
        let _ = copied.recv_timeout(OPEN_OUTPUT);
    }
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(3))
}

/// How a build is ended whose batch is gone: in order, at once, by force.
#[derive(Debug, Default)]
struct Ending {
    since: Option<Instant>,
    steps: u32,
}

impl Ending {
    fn hurry(&mut self, process: &Child, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let step = END_OF_BUILD / 4;
        if now.duration_since(since) < step * self.steps {
            return;
        }
        self.steps += 1;
        if self.steps <= 2 {
            interrupt(process);
        } else {
            signal(process, Signal::SIGKILL);
        }
    }
}

fn interrupt(process: &Child) {
    signal(process, Signal::SIGINT);
}

fn signal(process: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(process.id()) {
        // An error means that it has ended already.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Copies lines to standard output, each at once, so that other events do not come between. Says when
/// all are copied.
fn copy(output: ChildStdout) -> io::Result<Receiver<()>> {
    let (sender, copied) = mpsc::channel();
    thread::Builder::new()
        .name(String::from("copy"))
        .spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            loop {
                line.clear();
                match output.by_ref().take(PIECE).read_until(b'\n', &mut line) {
                    Ok(0) | Err(_) => break,
                    Ok(_) => {}
                }
                let mut stdout = io::stdout().lock();
                if stdout
                    .write_all(&line)
                    .and_then(|()| stdout.flush())
                    .is_err()
                {
                    break;
                }
            }
            let _ = sender.send(());
        })?;
    Ok(copied)
}
