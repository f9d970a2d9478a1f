//! Programs that sign and verify: bounded in time and output, ended when the user asks for it.

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::plain;

/// Bytes of output that are read.
const LONGEST: u64 = 64 << 10;

/// How often a program is looked at.
const TICK: Duration = Duration::from_millis(20);

/// What a program left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) stdout: Vec<u8>,
    /// What it said, fit for a terminal, with `; ` between its lines.
    pub(crate) words: String,
}

/// Runs `command` with `input`. It is ended when `stop` says to stop, with [`Stopped`] in the error.
///
/// [`Stopped`]: boxbuild_host::stop::Stopped
///
/// # Errors
/// Fails if it cannot be run, or is ended.
pub(crate) fn run(command: &mut Command, input: &[u8], stop: &StopCheck) -> io::Result<Output> {
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let builder = thread::Builder::new;
        let threads = [
            // A program that does not read to the end is told by its exit code.
            builder().spawn_scoped(scope, move || {
                let _ = stdin.map(|mut pipe| pipe.write_all(input));
                Vec::new()
            }),
            builder().spawn_scoped(scope, move || head(stdout)),
            builder().spawn_scoped(scope, move || head(stderr)),
        ];
        let ended = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
            if let Err(stopped) = stop.check() {
                break Err(io::Error::other(stopped));
            }
            thread::sleep(TICK);
        };
        if ended.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let mut outputs = Vec::new();
        for thread in threads {
            let ended_early = |_| io::Error::other("a thread ended early");
            outputs.push(thread?.join().map_err(ended_early)?);
        }
        let lines = outputs.pop().unwrap_or_default();
        let lines: Vec<String> = lines
            .split(|byte| *byte == b'\n')
            .map(plain)
            .filter(|line| !line.trim().is_empty())
            .collect();
        Ok(Output {
            success: ended?.success(),
            stdout: outputs.pop().unwrap_or_default(),
            words: lines.join("; "),
        })
    })
}

/// The first bytes of a pipe, which is read to its end.
fn head(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let mut pipe = pipe.take(LONGEST);
        let _ = pipe.read_to_end(&mut bytes);
        let _ = io::copy(&mut pipe.into_inner(), &mut io::sink());
    }
    bytes
}
