//! A build under way through a runner: the line to its worker, and its end by force.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use boxbuild_host::text::shown_path;
use nix::sys::signal::{Signal, killpg};
use nix::sys::statfs::{AFS_SUPER_MAGIC, FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use super::outcome::Verdict;
use super::setback::{CommandEnd, Ended, Heard, Setback, SetbackKind};
use crate::commands::worker::protocol::{ALIVE, STOP};

/// How many signs of life there are in the time after which there is none.
const BEATS: u32 = 4;

/// How long ssh may take until a worker answers.
const ANSWER: Duration = Duration::from_secs(120);

/// How long a build may take to end in order.
const ORDERLY: Duration = Duration::from_secs(60);

/// How long a command may take to end after the last event of its build.
const AFTER_EXIT: Duration = Duration::from_secs(20);

/// How long a command may take to end after SIGTERM.
const AFTER_TERM: Duration = Duration::from_secs(10);

/// How long the command that cancels a job may take.
const CANCEL: Duration = Duration::from_secs(20);

/// How long results may take to be seen here on a file system of the network: above the 60 s for which
/// NFS keeps the names of a folder (nfs(5), acdirmax).
const SEEN: Duration = Duration::from_secs(75);

/// The same on one of this host.
const SEEN_HERE: Duration = Duration::from_secs(3);

/// A file system that has not answered for so long after that does not answer.
const NO_ANSWER: Duration = Duration::from_secs(60);

/// What starts a build through a runner.
#[derive(Debug)]
pub(super) struct Start {
    /// The command that waits.
    pub(super) command: Command,
    /// The command that ends what may still be there.
    pub(super) cancel: Option<Command>,
    /// The job, on one line.
    pub(super) job: String,
    /// The host, where it is known before.
    pub(super) host: Option<String>,
    pub(super) lost_after: Duration,
    /// The command is ssh: it has to answer soon, and ends with 255 by its own fault.
    pub(super) is_ssh: bool,
}

/// A build under way through a runner.
#[derive(Debug)]
pub(super) struct Remote {
    pub(super) heard: Heard,
    /// Its end closes the input of the worker.
    control: Option<Sender<()>>,
    began: Instant,
    last_heard: Instant,
    lost_after: Duration,
    is_ssh: bool,
    cancel: Option<Command>,
    cancelling: Option<(Child, Instant)>,
    stopped_at: Option<Instant>,
    exit_at: Option<Instant>,
    forced_at: Option<Instant>,
    silent: Option<u64>,
    /// What is missing of the results, and since when they are looked for.
    seen: Option<(Receiver<Option<String>>, Instant)>,
}

impl Remote {
    /// Takes over the input of a worker that has just been started.
    ///
    /// # Errors
    /// Fails if there is no room for a thread.
    pub(super) fn begin(start: Start, input: Option<ChildStdin>) -> std::io::Result<Remote> {
        let (control, commands) = mpsc::channel();
        let (job, beat) = (start.job, start.lost_after / BEATS);
        thread::Builder::new()
            .name(String::from("control"))
            .spawn(move || speak(input, &job, beat, &commands))?;
        let now = Instant::now();
        Ok(Remote {
            heard: Heard::on(start.host),
            control: Some(control),
            began: now,
            last_heard: now,
            lost_after: start.lost_after,
            is_ssh: start.is_ssh,
            cancel: start.cancel,
            cancelling: None,
            stopped_at: None,
            exit_at: None,
            forced_at: None,
            silent: None,
            seen: None,
        })
    }

    /// Something has come from it.
    pub(super) fn alive(&mut self) {
        self.last_heard = Instant::now();
        if self.heard.exit.is_some() {
            self.exit_at.get_or_insert(self.last_heard);
        }
    }

    /// The build need not be waited for any more: its command has ended.
    pub(super) fn stop_waiting(&mut self) {
        self.stopped_at.get_or_insert_with(Instant::now);
    }

    /// Tells the build to stop; a second time, to stop at once.
    pub(super) fn stop(&mut self, process: &Child) {
        if let (Some(control), None) = (&self.control, self.stopped_at)
            && self.heard.worker
        {
            // It may be gone already.
            let _ = control.send(());
        } else if self.stopped_at.is_some() && self.heard.worker && self.forced_at.is_none() {
            if let Some(control) = &self.control {
                let _ = control.send(());
            }
        } else {
            // It waits in a queue, where nothing reads its input.
            self.force(process);
        }
        self.stopped_at.get_or_insert_with(Instant::now);
    }

    /// Ends a command whose time is over.
    pub(super) fn watch(&mut self, process: &Child) {
        if let Some(since) = self.forced_at {
            if since.elapsed() > AFTER_TERM {
                signal(process, Signal::SIGKILL);
            }
            return;
        }
        let over = |since: Option<Instant>, limit| since.is_some_and(|it| it.elapsed() > limit);
        let silent = if self.heard.worker {
            self.heard.exit.is_none() && self.last_heard.elapsed() > self.lost_after
        } else {
            self.is_ssh && self.began.elapsed() > ANSWER
        };
        if silent {
            self.silent = Some(self.last_heard.elapsed().as_secs());
        }
        if silent || over(self.stopped_at, ORDERLY) || over(self.exit_at, AFTER_EXIT) {
            self.force(process);
        }
    }

    fn force(&mut self, process: &Child) {
        if self.forced_at.is_some() {
            return;
        }
        self.forced_at = Some(Instant::now());
        self.control = None;
        self.start_cancel();
        signal(process, Signal::SIGTERM);
    }

    fn start_cancel(&mut self) {
        if let Some(mut command) = self.cancel.take() {
            let child = command.spawn().ok();
            self.cancelling = child.map(|child| (child, Instant::now()));
        }
    }

    /// Decides about the build, once its command has ended; `None` as long as something has to be
    /// waited for.
    pub(super) fn conclude(&mut self, how: String, code: Option<i32>) -> Option<Ended> {
        self.control = None;
        let ended = self.heard.decide(&CommandEnd {
            how,
            stopped: self.stopped_at.is_some(),
            silent: self.silent,
            never_reached: self.is_ssh && code == Some(255),
        });
        match &ended {
            Ended::Verdict(Verdict::Built) => return self.see_results(),
            Ended::Verdict(Verdict::Stopped) => self.start_cancel(),
            Ended::Setback(setback) if setback.kind != SetbackKind::Unfit => self.start_cancel(),
            _ => {}
        }
        self.is_cancelled().then_some(ended)
    }

    /// Whether the command that cancels, if it was started, has ended.
    fn is_cancelled(&mut self) -> bool {
        let Some((child, since)) = &mut self.cancelling else {
            return true;
        };
        match child.try_wait() {
            Ok(None) if since.elapsed() < CANCEL => return false,
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Ok(Some(_)) | Err(_) => {}
        }
        self.cancelling = None;
        true
    }

    /// Waits, on another thread, until this host sees the results, or the user wants to stop.
    fn see_results(&mut self) -> Option<Ended> {
        let Some((seen, since)) = &self.seen else {
            let files = self.heard.files.take().unwrap_or_default();
            let (sender, seen) = mpsc::channel();
            let started = thread::Builder::new()
                .name(String::from("results"))
                .spawn(move || {
                    let _ = sender.send(missing(&files));
                });
            // Decided by the next call: what was taken stays known.
            self.heard.files = Some(Vec::new());
            if started.is_ok() {
                self.seen = Some((seen, Instant::now()));
                return None;
            }
            return Some(Ended::Setback(Setback {
                kind: SetbackKind::Host,
                reason: String::from("no thread can be started that looks for its results"),
            }));
        };
        match seen.try_recv() {
            Err(TryRecvError::Empty) if self.stopped_at.is_some() => {
                Some(Ended::Verdict(Verdict::Stopped))
            }
            Err(TryRecvError::Empty) if since.elapsed() > SEEN + NO_ANSWER => {
                Some(Ended::Setback(Setback {
                    kind: SetbackKind::Host,
                    reason: String::from(
                        "it has built, but the file system of the results does not answer here",
                    ),
                }))
            }
            Err(TryRecvError::Empty) => None,
            Ok(Some(reason)) => Some(Ended::Setback(Setback {
                kind: SetbackKind::Host,
                reason,
            })),
            Ok(None) => Some(Ended::Verdict(Verdict::Built)),
            Err(TryRecvError::Disconnected) => Some(Ended::Setback(Setback {
                kind: SetbackKind::Host,
                reason: String::from("its results could not be looked for"),
            })),
        }
    }
}

/// Writes the job, signs of life, and requests to stop. The input is closed at the end.
fn speak(input: Option<ChildStdin>, job: &str, beat: Duration, commands: &Receiver<()>) {
    let Some(mut input) = input else { return };
    let mut line = job;
    loop {
        if writeln!(input, "{line}")
            .and_then(|()| input.flush())
            .is_err()
        {
            return;
        }
        line = match commands.recv_timeout(beat) {
            Ok(()) => STOP,
            Err(RecvTimeoutError::Timeout) => ALIVE,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

/// Sends a signal to the command and what it has started.
fn signal(process: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(process.id()) {
        // An error means that it has ended already.
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

/// Returns what is missing of the results after all the time that they have.
fn missing(files: &[(PathBuf, Option<u64>)]) -> Option<String> {
    let first = files.first().map(|(path, _)| path.as_path());
    let patience = match first.is_none_or(is_of_network) {
        true => SEEN,
        false => SEEN_HERE,
    };
    let deadline = Instant::now() + patience;
    let absent = |(path, bytes): &&(PathBuf, Option<u64>)| {
        !fs::metadata(path).is_ok_and(|found| bytes.is_none_or(|bytes| found.len() == bytes))
    };
    loop {
        let (path, _) = files.iter().find(absent)?;
        if Instant::now() > deadline {
            return Some(format!(
                "it has built, but {} is not here: results have to be in a folder that both hosts \
                 share",
                shown_path(path)
            ));
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Whether a path is, or would be, on a file system whose server other hosts change.
fn is_of_network(path: &Path) -> bool {
    /// Of CIFS and SMB2, Ceph, GFS2, OCFS2, Lustre, GPFS, BeeGFS (statfs(2), and their sources).
    const OTHERS: &[i64] = &[
        0xff53_4d42,
        0x00c3_6400,
        0xfe53_4d42,
        0x0116_1970,
        0x7461_636f,
        0x0bd0_0bd0,
        0x4750_4653,
        0x1983_0326,
    ];
    let found = path.ancestors().find_map(|folder| statfs(folder).ok());
    found.is_none_or(|found| {
        let kind = found.filesystem_type();
        let known = [NFS_SUPER_MAGIC, FUSE_SUPER_MAGIC, AFS_SUPER_MAGIC];
        known.contains(&kind) || OTHERS.contains(&kind.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built() -> Remote {
        let start = Start {
            command: Command::new("true"),
            cancel: None,
            job: String::new(),
            host: None,
            lost_after: Duration::from_secs(30),
            is_ssh: false,
        };
        let mut remote = Remote::begin(start, None).unwrap();
        remote.heard.exit = Some(0);
        remote.heard.files = Some(Vec::new());
        remote
    }

    /// A file system that does not answer keeps its thread, but not the batch.
    #[test]
    fn ctrl_c_ends_the_wait_for_results() {
        let mut remote = built();
        let (_sender, seen) = mpsc::channel();
        remote.seen = Some((seen, Instant::now()));
        assert_eq!(remote.conclude(String::new(), Some(0)), None);
        remote.stop_waiting();
        assert_eq!(
            remote.conclude(String::new(), Some(0)),
            Some(Ended::Verdict(Verdict::Stopped))
        );
    }

    #[test]
    fn results_that_were_not_looked_for_are_no_results() {
        let mut remote = built();
        let (sender, seen) = mpsc::channel();
        drop(sender);
        remote.seen = Some((seen, Instant::now()));
        let ended = remote.conclude(String::new(), Some(0));
        assert!(
            matches!(&ended, Some(Ended::Setback(setback)) if setback.kind == SetbackKind::Host),
            "{ended:?}"
        );
    }

    #[test]
    fn results_that_are_not_here_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (there, absent) = (dir.path().join("there"), dir.path().join("absent"));
        fs::write(&there, "12345").unwrap();
        assert_eq!(missing(&[(there.clone(), Some(5))]), None);
        assert_eq!(missing(&[]), None);
        let text = missing(&[(there.clone(), Some(5)), (absent.clone(), Some(1))]).unwrap();
        assert!(text.contains("absent is not here"), "{text}");
        // A folder has no length, but is there or not.
        assert_eq!(missing(&[(there.clone(), None)]), None);
        assert!(missing(&[(absent, None)]).is_some());
        assert!(missing(&[(there, Some(4))]).is_some());
        assert!(!is_of_network(&dir.path().join("not/yet")));
    }
}
