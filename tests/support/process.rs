//! Programs that run: their output is collected meanwhile, and they end in time or are killed.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::scaled_timeout;

/// How often is looked whether something has happened.
const POLL: Duration = Duration::from_millis(10);

/// Far more seconds than any run of the small box needs on a busy machine.
const LIMIT: u64 = 240;

/// A program under way. It is killed when this is dropped before its end.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
    deadline: Instant,
    description: String,
}

/// What a program has written to a pipe so far.
#[derive(Debug, Clone, Default)]
struct Collected(Arc<Mutex<(Vec<u8>, bool)>>);

impl Collected {
    fn of(pipe: Option<impl Read + Send + 'static>) -> Collected {
        let collected = Collected::default();
        match pipe {
            None => collected.0.lock().unwrap().1 = true,
            Some(mut pipe) => {
                let ours = collected.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                        ours.0.lock().unwrap().0.extend(&buffer[..len]);
                    }
                    ours.0.lock().unwrap().1 = true;
                });
            }
        }
        collected
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().0).into_owned()
    }

    fn is_complete(&self) -> bool {
        self.0.lock().unwrap().1
    }
}

impl Running {
    /// Starts a program without input, whose output is collected.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        let description = format!("{command:?}");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{description}: {error}"));
        Running {
            stdout: Collected::of(child.stdout.take()),
            stderr: Collected::of(child.stderr.take()),
            child,
            deadline: Instant::now() + scaled_timeout(LIMIT),
            description,
        }
    }

    /// Changes how long it may run from now on, 240 s otherwise.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Running {
        self.deadline = Instant::now() + limit;
        self
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Sends a signal to its process group, as a terminal does on Ctrl-C. It must lead one.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.pid(), signal).unwrap();
    }

    /// Waits until `condition` holds. Panics if the program ends, or its time, before that.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut(&Running) -> bool) {
        while !condition(self) {
            let ended = self.child.try_wait().unwrap();
            // What it did last may be what is waited for.
            if ended.is_some() && condition(self) {
                return;
            }
            if ended.is_some() || Instant::now() > self.deadline {
                let how = ended.map_or("the time is over".to_owned(), |status| status.to_string());
                let texts = (self.stdout.text(), self.stderr.text());
                panic!("{how} before {what}:\n{}\n{}", texts.0, texts.1);
            }
            std::thread::sleep(POLL);
        }
    }

    /// Waits until `text` is on standard error.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.wait_until(text, |running| running.stderr().contains(text));
    }

    /// Waits for the end, or until the time is over, and returns how it ended.
    pub fn finish(mut self) -> ProcessOutput {
        let ended = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > self.deadline => break None,
                None => std::thread::sleep(POLL),
            }
        };
        let status = ended.unwrap_or_else(|| {
            let _ = self.child.kill();
            self.child.wait().unwrap()
        });
        // Processes that it left behind may keep the pipes open.
        let readers = Instant::now() + Duration::from_secs(10);
        while !(self.stdout.is_complete() && self.stderr.is_complete()) && Instant::now() < readers
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut stderr = self.stderr.text();
        if ended.is_none() {
            stderr += &format!("\n[killed: it did not end in time: {}]\n", self.description);
        }
        ProcessOutput::new(status, self.stdout.text(), stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How a program ended and what it wrote.
#[derive(Debug)]
pub struct ProcessOutput {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for ProcessOutput {
    fn from(output: Output) -> ProcessOutput {
        ProcessOutput::new(
            output.status,
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }
}

impl ProcessOutput {
    fn new(status: ExitStatus, stdout: String, stderr: String) -> ProcessOutput {
        ProcessOutput {
            code: status.code().unwrap_or(-1),
            signal: status.signal(),
            stdout,
            stderr,
        }
    }

    /// Runs a program to its end.
    #[track_caller]
    pub fn of(command: &mut Command) -> ProcessOutput {
        Running::start(command).finish()
    }

    /// Fails unless it ended with `code` and wrote all of `texts` to standard error.
    #[track_caller]
    pub fn expect(&self, code: i32, texts: &[&str]) {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "'{text}' is not in:\n{}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Running {
        Running::start(Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn output_and_exit_code_arrive() {
        let output = shell("echo out; echo err >&2; exit 7").finish();
        output.expect(7, &["err"]);
        assert_eq!((output.stdout.as_str(), output.signal), ("out\n", None));
    }

    #[test]
    fn what_does_not_end_is_killed_and_says_so() {
        let running = shell("echo begun >&2; exec sleep 1000");
        let output = running.limit(Duration::from_millis(200)).finish();
        assert_eq!((output.code, output.signal), (-1, Some(9)));
        assert!(output.stderr.contains("did not end in time"), "{output:?}");
    }

    #[test]
    fn a_text_is_waited_for() {
        let mut running = shell("echo first >&2; sleep 0.1; echo second >&2; exec sleep 1000");
        running.wait_for("second");
        running.signal(Signal::SIGTERM);
        assert_eq!(running.finish().signal, Some(15));
    }

    #[test]
    #[should_panic(expected = "before never")]
    fn an_early_end_is_not_waited_out() {
        shell("exit 0").wait_for("never");
    }

    #[test]
    fn a_test_that_fails_leaves_no_program() {
        let running = shell("exec sleep 1000");
        let pid = running.pid();
        drop(running);
        assert!(kill(pid, None).is_err());
    }
}
