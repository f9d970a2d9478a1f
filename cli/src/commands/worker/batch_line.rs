//! The line to the batch: its job, its signs of life, its requests to stop. Without them, the build ends.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{Job, STOP};

/// Longest job, in bytes: above what the kernel takes as arguments, each byte as a number.
const LONGEST_JOB: u64 = 64 << 20;

/// Longest of the other lines, in bytes.
const LONGEST_LINE: u64 = 1 << 10;

/// How long the job may take to arrive.
const JOB_TIME: Duration = Duration::from_secs(60);

/// The longest time without a line that a job can name; one second is the shortest.
const LONGEST_SILENCE: u64 = 3600;

/// What arrives.
#[derive(Debug)]
enum Heard {
    Job(Box<Job>),
    Alive,
    Stop,
}

/// The line to the batch.
#[derive(Debug)]
pub(super) struct BatchLine {
    lines: Receiver<Heard>,
    last: Instant,
    lost_after: Duration,
    /// It has been closed.
    closed: bool,
}

/// What to do, by what was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heed {
    GoOn,
    /// The batch asked for a stop, for the first time or once more.
    Stop,
    /// The batch is gone.
    Lost,
}

impl BatchLine {
    /// Listens on `input`, and waits for the job.
    ///
    /// # Errors
    /// Fails if there is none.
    pub(super) fn open(input: impl Read + Send + 'static) -> io::Result<(BatchLine, Job)> {
        let (sender, lines) = mpsc::channel();
        thread::Builder::new()
            .name(String::from("batch"))
            .spawn(move || {
                let mut input = BufReader::new(input);
                let mut limit = LONGEST_JOB;
                while let Some(line) = next_line(&mut input, limit) {
                    let heard = match line.trim_ascii() {
                        _ if limit == LONGEST_JOB => match serde_json::from_slice(&line) {
                            Ok(job) => Heard::Job(job),
                            Err(_) => return,
                        },
                        line if line == STOP.as_bytes() => Heard::Stop,
                        _ => Heard::Alive,
                    };
                    limit = LONGEST_LINE;
                    if sender.send(heard).is_err() {
                        return;
                    }
                }
            })?;
        match lines.recv_timeout(JOB_TIME) {
            Ok(Heard::Job(job)) => Ok((
                BatchLine {
                    lines,
                    last: Instant::now(),
                    lost_after: Duration::from_secs(
                        job.lost_after_seconds.clamp(1, LONGEST_SILENCE),
                    ),
                    closed: false,
                },
                *job,
            )),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "there is no job of a batch of this version on standard input",
            )),
            Err(RecvTimeoutError::Timeout) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Without a line for so long, the batch is gone.
    pub(super) fn lost_after(&self) -> Duration {
        self.lost_after
    }

    /// Waits for what the batch says, up to `time`.
    pub(super) fn listen(&mut self, time: Duration) -> Heed {
        if self.closed {
            thread::sleep(time);
            return Heed::Lost;
        }
        match self.lines.recv_timeout(time) {
            Ok(heard) => {
                self.last = Instant::now();
                if matches!(heard, Heard::Stop) {
                    return Heed::Stop;
                }
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.closed = true;
                return Heed::Lost;
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if self.last.elapsed() > self.lost_after {
            Heed::Lost
        } else {
            Heed::GoOn
        }
    }
}

/// Returns the next line; `None` at the end, and if it is too long.
fn next_line(input: &mut impl BufRead, limit: u64) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    input
        .by_ref()
        .take(limit)
        .read_until(b'\n', &mut line)
        .ok()?;
    line.ends_with(b"\n").then_some(line)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::protocol::{ALIVE, Expected, PROTOCOL, VERSION};
    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    fn open(lost_after_seconds: u64) -> (BatchLine, std::io::PipeWriter) {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let job = Job {
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            lost_after_seconds,
            expected: Expected::default(),
            build: None,
        };
        writeln!(writer, "{}", serde_json::to_string(&job).unwrap()).unwrap();
        let (line, read) = BatchLine::open(reader).unwrap();
        assert_eq!(read, job);
        (line, writer)
    }

    #[test]
    fn the_end_of_the_input_is_the_end_of_the_batch() {
        let (mut line, mut writer) = open(600);
        writeln!(writer, "{ALIVE}\n{STOP}").unwrap();
        assert_eq!(line.listen(TICK), Heed::GoOn);
        assert_eq!(line.listen(TICK), Heed::Stop);
        assert_eq!(line.listen(TICK), Heed::GoOn);
        drop(writer);
        assert_eq!(line.listen(Duration::from_secs(10)), Heed::Lost);
        assert_eq!(line.listen(TICK), Heed::Lost);
    }

    #[test]
    fn silence_is_the_end_of_the_batch() {
        let (mut line, mut writer) = open(1);
        assert_eq!(line.listen(TICK), Heed::GoOn);
        std::thread::sleep(Duration::from_millis(1100));
        assert_eq!(line.listen(TICK), Heed::Lost);
        // The connection is back.
        writeln!(writer, "{ALIVE}").unwrap();
        assert_eq!(line.listen(Duration::from_secs(10)), Heed::GoOn);
    }

    #[test]
    fn a_time_that_no_runner_has_is_limited() {
        let (line, _writer) = open(0);
        assert_eq!(line.lost_after(), Duration::from_secs(1));
        let (line, _writer) = open(u64::MAX);
        assert_eq!(line.lost_after(), Duration::from_secs(LONGEST_SILENCE));
    }

    #[test]
    fn what_is_no_job_is_refused() {
        for text in ["", "--box small\n", "{\"protocol\":1}\n", "{}"] {
            assert!(BatchLine::open(text.as_bytes()).is_err(), "{text}");
        }
    }
}
