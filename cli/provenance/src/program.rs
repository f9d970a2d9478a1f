//! Programs that sign and verify: bounded in time and output, ended when the user asks for it.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
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
    let output = supervise(&mut child, input, stop);
    if output.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    output
}

fn supervise(child: &mut Child, input: &[u8], stop: &StopCheck) -> io::Result<Output> {
    let (stdin, input) = (child.stdin.take(), input.to_vec());
    // A program that does not read to the end is told by its exit code.
    thread::Builder::new().spawn(move || stdin.map(|mut pipe| pipe.write_all(&input)))?;
    let (stdout, stderr) = (head(child.stdout.take())?, head(child.stderr.take())?);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        stop.check().map_err(io::Error::other)?;
        thread::sleep(TICK);
    };
    let stdout = received(&stdout, stop)?;
    let lines: Vec<String> = received(&stderr, stop)?
        .split(|byte| *byte == b'\n')
        .map(plain)
        .filter(|line| !line.trim().is_empty())
        .collect();
    Ok(Output {
        success: status.success(),
        stdout,
        words: lines.join("; "),
    })
}

/// Reads a pipe to its end, and sends its first bytes.
fn head(pipe: Option<impl Read + Send + 'static>) -> io::Result<Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let mut pipe = pipe.take(LONGEST);
            let _ = pipe.read_to_end(&mut bytes);
            let _ = io::copy(&mut pipe.into_inner(), &mut io::sink());
        }
        sender.send(bytes)
    })?;
    Ok(receiver)
}

/// What a thread sends. What the program started may have its pipes after its end: an agent, or a program of
/// a configuration.
fn received(receiver: &Receiver<Vec<u8>>, stop: &StopCheck) -> io::Result<Vec<u8>> {
    loop {
        match receiver.recv_timeout(TICK) {
            Ok(bytes) => return Ok(bytes),
            Err(RecvTimeoutError::Timeout) => stop.check().map_err(io::Error::other)?,
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use boxbuild_host::interrupt::Interrupt;
    use boxbuild_host::stop::Stopped;

    use super::*;

    fn shell(script: &str, input: &[u8], time: Duration) -> io::Result<Output> {
        let stop = StopCheck::within(&Interrupt::default(), time);
        run(Command::new("sh").args(["-c", script]), input, &stop)
    }

    #[test]
    fn output_is_bounded_and_fit_for_a_terminal() {
        let script = "head -c 1000000 /dev/zero; printf 'a\\n\\n\\033[2Jb\\n' >&2; exit 1";
        let output = shell(script, &[7; 200_000], Duration::from_secs(60)).unwrap();
        assert_eq!(output.stdout.len() as u64, LONGEST);
        assert_eq!((output.success, output.words.as_str()), (false, "a; b"));
    }

    #[test]
    fn a_program_that_leaves_another_with_its_pipes_is_not_waited_for() {
        for script in ["sleep 60 & echo x", "exec sleep 60"] {
            let error = shell(script, b"", Duration::from_millis(500)).unwrap_err();
            assert!(matches!(Stopped::of(&error), Some(Stopped::TimeOver)));
        }
    }
}
