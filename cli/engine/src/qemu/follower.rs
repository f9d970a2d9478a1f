//! The thread that follows QEMU: reads everything that it writes, until it is gone.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use boxbuild_host::text::plain;
use boxbuild_vmm::net::{CurrentNetwork, HostNetwork};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::monitor::{Monitor, Shutdown};
use super::shared::{Shared, Streams};
use super::shares::{Fault, News, ShareProcess};
use crate::channel::EventSender;
use crate::event::{Ended, Event};
use crate::network::NetworkWatch;
use crate::usage;

/// How often the child is looked at when it says nothing.
const TICK: Duration = Duration::from_millis(100);

/// Bytes of QEMU's own messages that are kept for the report of its failure.
const LAST_WORDS: usize = 4 << 10;

/// Reads everything QEMU says until it is gone.
pub(super) struct Follower {
    shared: Arc<Shared>,
    streams: Streams,
    errors: OwnedFd,
    last_words: Vec<u8>,
    monitor: Monitor,
    /// Why a share does not work any more.
    fault: Option<Fault>,
    /// What the machine's network knows of the host's.
    host: Option<CurrentNetwork>,
    rules: Rules,
    events: EventSender,
}

/// What decides that a machine is to end, and the words for it.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// More restarts of the guest end it; `None` for any number.
    pub(super) resets: Option<u32>,
    /// What is said where the file system with the disk's changes is full.
    pub(super) full: &'static str,
}

impl Rules {
    /// Those of a box: QEMU ends with its first restart (`-no-reboot`).
    pub(super) const BOX: Rules = Rules {
        resets: None,
        full: "the file system with the box's writable disk is full: free some space, or set \
               KIWI_BOXED_CACHE_DIR to a folder on another one",
    };
}

/// One of the things QEMU writes to.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Console,
    Control,
    Monitor,
    Errors,
}

/// What else a follower has to do with.
pub(super) struct Watched {
    /// What the machine's network knows of the host's.
    pub(super) host: Option<CurrentNetwork>,
    /// Gets the monitor's answers to what is asked for a checkpoint.
    pub(super) steps: Sender<Result<(), String>>,
}

impl Follower {
    /// Follows what writes to `streams` and `errors`, and reports to `events`.
    pub(super) fn new(
        shared: Arc<Shared>,
        streams: Streams,
        errors: OwnedFd,
        watched: Watched,
        rules: Rules,
        events: EventSender,
    ) -> Follower {
        let Watched { host, steps } = watched;
        Follower {
            shared,
            streams,
            errors,
            last_words: Vec::new(),
            monitor: Monitor::telling(steps),
            fault: None,
            host,
            rules,
            events,
        }
    }

    pub(super) fn run(mut self, mut servers: Option<ShareProcess>) {
        let mut open = vec![
            Source::Console,
            Source::Control,
            Source::Monitor,
            Source::Errors,
        ];
        let mut looked = Instant::now();
        // What the machine's network knows is told once more, which does no harm.
        let mut network = NetworkWatch::new(HostNetwork::default());
        let status = loop {
            // The end is looked at before the last words are taken: nothing comes after it.
            let status = self.shared.status();
            while self.read(
                &mut open,
                if status.is_some() {
                    Duration::ZERO
                } else {
                    TICK
                },
            ) {}
            if let Some(status) = status {
                break status;
            }
            if let Some(servers) = &mut servers {
                // The guest would wait for ever for answers that do not come.
                self.tell(servers.news());
                self.fault = servers.fault().cloned();
            }
            if self.monitor.no_space || self.fault.is_some() || self.restarts_for_ever() {
                let _ = self.shared.process().kill();
            }
            if looked.elapsed() > Duration::from_secs(1) {
                looked = Instant::now();
                self.measure();
                if let Some(host) = &self.host {
                    network.look(|now| {
                        host.set(now.clone());
                        true
                    });
                }
            }
        };
        // The shares are still before the end is told: what is in them is final.
        if let Some(servers) = servers {
            let (fault, news) = servers.finish();
            self.fault = fault;
            self.tell(news);
        }
        let ended = self.judge(status);
        self.events.end(ended);
    }

    fn restarts_for_ever(&self) -> bool {
        let most = self.rules.resets;
        most.is_some_and(|most| self.monitor.resets > most)
    }

    fn tell(&self, news: News) {
        for note in news.notes {
            self.events.send(Event::Note(note));
        }
    }

    /// Waits up to `patience` for QEMU to say something, and takes it. Returns whether there
    /// was something.
    fn read(&mut self, open: &mut Vec<Source>, patience: Duration) -> bool {
        let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
        let mut polled: Vec<PollFd<'_>> = open
            .iter()
            .map(|source| PollFd::new(self.fd(*source), PollFlags::POLLIN))
            .collect();
        if polled.is_empty() {
            std::thread::sleep(patience);
            return false;
        }
        if !poll(&mut polled, timeout).is_ok_and(|ready| ready > 0) {
            return false;
        }
        let ready: Vec<Source> = polled
            .iter()
            .zip(open.iter())
            .filter(|(polled, _)| polled.any().unwrap_or(false))
            .map(|(_, source)| *source)
            .collect();
        let mut buffer = [0; 16 << 10];
        let mut some = false;
        for source in ready {
            match nix::unistd::read(self.fd(source), &mut buffer) {
                Ok(count) if count > 0 => {
                    some = true;
                    self.take(source, &buffer[..count]);
                }
                Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => {}
                _ => open.retain(|one| *one != source),
            }
        }
        // A flood must not keep the end from being seen.
        some && patience.is_zero()
    }

    fn fd(&self, source: Source) -> BorrowedFd<'_> {
        match source {
            Source::Console => self.streams.console.as_fd(),
            Source::Control => self.streams.control.as_fd(),
            Source::Monitor => self.streams.monitor.as_fd(),
            Source::Errors => self.errors.as_fd(),
        }
    }

    fn take(&mut self, source: Source, bytes: &[u8]) {
        match source {
            Source::Console => self.events.send(Event::Console(bytes.to_vec())),
            Source::Control => self.events.send(Event::Control(bytes.to_vec())),
            Source::Monitor => self.monitor.push(bytes),
            Source::Errors => {
                self.last_words.extend_from_slice(bytes);
                let excess = self.last_words.len().saturating_sub(LAST_WORDS);
                self.last_words.drain(..excess);
            }
        }
    }

    /// Notes the highest resident memory so far (proc_pid_status(5), VmHWM), and asks QEMU
    /// about its disks.
    fn measure(&mut self) {
        *self
            .shared
            .disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = self.monitor.disk;
        // One question at a time: a QEMU that hangs must not fill the socket.
        if !self.monitor.asked {
            self.monitor.asked = (&self.shared.monitor).write_all(Monitor::BLOCKS).is_ok();
        }
        let id = self.shared.process().id();
        let status = std::fs::read_to_string(format!("/proc/{id}/status"));
        if let Some(peak) = status.ok().and_then(|status| usage::kib(&status, "VmHWM:")) {
            self.shared.peak_memory.fetch_max(peak, Ordering::Relaxed);
        }
    }

    fn judge(&self, status: ExitStatus) -> Ended {
        let words: Vec<String> = self
            .last_words
            .split(|byte| *byte == b'\n')
            .map(plain)
            .filter(|line| !line.trim().is_empty())
            .collect();
        let words = words[words.len().saturating_sub(5)..].join("; ");
        if self.monitor.no_space {
            return Ended::Failed(self.rules.full.to_owned());
        }
        if self.restarts_for_ever() {
            return Ended::Reset;
        }
        match &self.fault {
            Some(Fault::Guest(fault)) => {
                return Ended::Failed(format!(
                    "the guest violated the protocol of its shares: {fault}"
                ));
            }
            Some(Fault::Server(end)) => {
                return Ended::Failed(format!("the server of the shared folders has ended: {end}"));
            }
            None => {}
        }
        if self.shared.killed.load(Ordering::Relaxed) {
            return Ended::Killed;
        }
        match self.monitor.shutdown {
            Some(Shutdown::Guest) if status.success() => Ended::PoweredOff,
            Some(Shutdown::Reset) if status.success() => Ended::Reset,
            _ => {
                let how = match status.signal() {
                    Some(libc::SIGKILL) => String::from(
                        "QEMU was killed by signal 9 (by hand, or because the memory of this host, or of a \
                         control group, is full)",
                    ),
                    Some(signal) => format!("QEMU was killed by signal {signal}"),
                    None => format!("QEMU ended with {status}"),
                };
                let colon = if words.is_empty() { "" } else { ": " };
                Ended::Failed(format!("{how}{colon}{words}"))
            }
        }
    }
}
