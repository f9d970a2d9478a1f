//! `podman run` as a child process.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use nix::sys::signal::Signal;

use super::network::PrivateNetwork;
use super::output::last_line;
use super::reaper::ContainerReaper;
use super::shell::Shell;
use crate::channel::{EventGate, EventSender};
use crate::event::{Ended, Event};
use crate::handle::{Console, Running};
use boxbuild_host::reaper::die_with_parent;

/// How often podman is looked at.
const TICK: Duration = Duration::from_millis(20);

/// How often the container is removed again while podman does not end: it may have been told to end
/// before there was a container.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of standard error that are kept for the report of a failure.
const LAST_WORDS: usize = 4 << 10;

/// How long podman may take beyond the container's time to clean up.
const PATIENCE: Duration = Duration::from_secs(20);

/// Exit codes of `podman run` that are podman's own: it failed, the command cannot be
/// invoked, the command is not there (podman-run(1), "Exit Status").
const PODMANS_OWN: std::ops::RangeInclusive<i32> = 125..=127;

/// Exit codes of a process 1 that asked for a reboot or a power-off: 128 and SIGHUP or SIGINT
/// (reboot(2), "Behavior inside PID namespaces").
const REBOOTS: [i32; 2] = [129, 130];

/// What goes with a container.
#[derive(Debug)]
pub(super) struct Parts {
    /// Ends it.
    pub(super) reaper: ContainerReaper,
    /// Serves its network, if that is its own.
    pub(super) network: Option<PrivateNetwork>,
    /// KIWI's package cache, held for this build.
    pub(super) cache: Option<Flock<File>>,
    /// The image's own entry point is process 1.
    pub(super) published: bool,
    /// The shell that the user gets.
    pub(super) shell: Option<Shell>,
}

/// A container that runs.
#[derive(Debug)]
pub(super) struct Child {
    shared: Arc<Shared>,
    follower: Option<JoinHandle<()>>,
    /// `None` once the channel of events is abandoned.
    gate: Option<EventGate>,
    /// The shell that the user gets.
    shell: Mutex<Option<Shell>>,
    /// Until the container is gone.
    _network: Option<PrivateNetwork>,
    /// KIWI's package cache, held for this build.
    _cache: Option<Flock<File>>,
}

#[derive(Debug)]
struct Shared {
    reaper: Mutex<Option<ContainerReaper>>,
    /// Until when the end is waited for.
    killed: Mutex<Option<Instant>>,
    last_words: Mutex<Vec<u8>>,
    events: EventSender,
}

impl Child {
    /// Starts podman.
    pub(super) fn spawn(
        mut command: Command,
        parts: Parts,
        events: EventSender,
    ) -> io::Result<Child> {
        let Parts {
            reaper,
            network,
            cache,
            published,
            shell,
        } = parts;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut command, Signal::SIGKILL);
        let mut process = command.spawn()?;
        let (events, gate) = events.gated();
        let shared = Arc::new(Shared {
            reaper: Mutex::new(Some(reaper)),
            killed: Mutex::new(None),
            last_words: Mutex::new(Vec::new()),
            events,
        });
        // The follower gets the process only once it runs.
        let (hand_over, handed_over) = sync_channel::<(_, Vec<JoinHandle<()>>)>(1);
        let mut readers = Vec::new();
        let follower = shared
            .start_readers(&mut process, published, &mut readers)
            .and_then(|()| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(String::from("podman"))
                    .spawn(move || {
                        if let Ok((process, readers)) = handed_over.recv() {
                            shared.follow(process, &readers, published);
                        }
                    })
            });
        let follower = match follower {
            Ok(follower) => follower,
            Err(error) => {
                // Without its threads, the container is ended here: podman alone would run on, and
                // under sudo it is not ours to kill.
                drop(gate);
                *lock(&shared.killed) = Some(Instant::now() + PATIENCE);
                shared.follow(process, &readers, published);
                return Err(error);
            }
        };
        let _ = hand_over.send((process, readers));
        Ok(Child {
            shared,
            follower: Some(follower),
            gate: Some(gate),
            shell: Mutex::new(shell),
            _network: network,
            _cache: cache,
        })
    }
}

impl Running for Child {
    fn kill(&mut self, grace: Duration) {
        lock(&self.shared.killed).get_or_insert_with(|| Instant::now() + grace + PATIENCE);
        if let Some(reaper) = lock(&self.shared.reaper).as_mut() {
            reaper.stop(grace);
        }
    }

    fn peak_memory(&self) -> Option<u64> {
        None
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        let shell = lock(&self.shell).take()?;
        let events = &self.shared.events;
        let opened = shell.open(events.clone());
        let note = |error: &io::Error| events.note(format!("no shell in the container: {error}"));
        opened.inspect_err(note).ok()
    }

    fn keep_disk(&self, _folder: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.gate = None;
        self.kill(Duration::ZERO);
        if let Some(follower) = self.follower.take() {
            // A panic of the follower has been printed; there is nothing to add here.
            let _ = follower.join();
        }
    }
}

impl Shared {
    /// Starts the threads that read what podman writes.
    fn start_readers(
        self: &Arc<Self>,
        process: &mut std::process::Child,
        published: bool,
        readers: &mut Vec<JoinHandle<()>>,
    ) -> io::Result<()> {
        if let Some(output) = process.stdout.take() {
            let shared = Arc::clone(self);
            // boxbuild's own process 1 reports here; a published box has its console here.
            let event = if published {
                Event::Console
            } else {
                Event::Control
            };
            let read = move || shared.read(output, event);
            readers.push(std::thread::Builder::new().spawn(read)?);
        }
        if let Some(errors) = process.stderr.take() {
            let shared = Arc::clone(self);
            let read = move || {
                shared.read(errors, |bytes| {
                    shared.keep(&bytes);
                    Event::Console(bytes)
                });
            };
            readers.push(std::thread::Builder::new().spawn(read)?);
        }
        Ok(())
    }

    /// Waits for podman's end, sees that nothing is left, and tells how it was.
    fn follow(
        &self,
        mut process: std::process::Child,
        readers: &[JoinHandle<()>],
        published: bool,
    ) {
        let mut removed = Instant::now();
        let status = loop {
            match process.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) => {}
                Err(_) => break None,
            }
            let killed = *lock(&self.killed);
            if killed.is_some() && removed.elapsed() > AGAIN {
                removed = Instant::now();
                if let Some(reaper) = lock(&self.reaper).as_mut() {
                    reaper.stop(Duration::ZERO);
                }
            }
            if killed.is_some_and(|deadline| Instant::now() > deadline) {
                // Under sudo, this process is not ours to kill, but the container is gone.
                let _ = process.kill();
                break None;
            }
            std::thread::sleep(TICK);
        };
        // What is still in the pipes. A stray process that holds them open is not waited for.
        let deadline = Instant::now() + Duration::from_secs(2);
        while readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(TICK);
        }
        // The reaper waits until the container is gone: what is in the folders is final.
        let reaper = lock(&self.reaper).take();
        drop(reaper);
        let ended = if lock(&self.killed).is_some() {
            Ended::Killed
        } else {
            match status {
                Some(status) => judge(status, published, &lock(&self.last_words)),
                None => Ended::Failed(String::from("podman ended without an exit status")),
            }
        };
        self.events.end(ended);
    }

    fn read(&self, mut stream: impl Read, event: impl Fn(Vec<u8>) -> Event) {
        let mut buffer = [0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => self.events.send(event(buffer[..count].to_vec())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn keep(&self, bytes: &[u8]) {
        let mut words = lock(&self.last_words);
        words.extend_from_slice(bytes);
        let excess = words.len().saturating_sub(LAST_WORDS);
        words.drain(..excess);
    }
}

/// How a container ended, from podman's exit code.
fn judge(status: ExitStatus, published: bool, last_words: &[u8]) -> Ended {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ended::PoweredOff,
        (Some(code), _) if published && REBOOTS.contains(&code) => Ended::PoweredOff,
        (Some(code), _) if !published && !PODMANS_OWN.contains(&code) => match code - 128 {
            9 => Ended::Failed(String::from(
                "the container was killed (by hand, or because the host's memory is full)",
            )),
            // The script says why on standard error, and leaves no verdict.
            _ => Ended::PoweredOff,
        },
        (Some(code), _) if published && !PODMANS_OWN.contains(&code) => {
            Ended::Failed(format!("the container ended with exit code {code}"))
        }
        (Some(_), _) => Ended::Failed(format!("podman: {}", last_line(last_words))),
        (None, signal) => Ended::Failed(format!(
            "podman was killed by signal {}",
            signal.unwrap_or_default()
        )),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: i32, published: bool) -> Ended {
        judge(
            ExitStatus::from_raw(code << 8),
            published,
            b"level=warning msg=x\nError: no such image\nlevel=warning\n\n",
        )
    }

    #[test]
    fn only_a_container_that_ended_itself_can_have_results() {
        assert_eq!(ended(0, false), Ended::PoweredOff);
        assert_eq!(
            ended(125, false),
            Ended::Failed(String::from("podman: no such image"))
        );
        assert!(matches!(ended(137, false), Ended::Failed(_)));
        assert_eq!(ended(129, true), Ended::PoweredOff);
        assert!(matches!(ended(137, true), Ended::Failed(_)));
        assert!(matches!(ended(1, true), Ended::Failed(_)));
        let killed = judge(ExitStatus::from_raw(9), false, b"");
        assert!(matches!(killed, Ended::Failed(text) if text.contains("signal 9")));
    }
}
