//! QEMU as a child process.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boxbuild_virtiofs::Traffic;
use boxbuild_virtiofs::vhost_user::ShareServer;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};

use super::compress::Compressor;
use super::monitor::{Monitor, Shutdown};
use super::{other, overlay};
use crate::channel::{EventGate, EventSender};
use crate::event::{Ended, Event};
use crate::handle::{Console, Moved, Running, Usage, size_line};
use crate::usage;
use boxbuild_host::text::plain;

/// How often the child is looked at when it says nothing.
const TICK: Duration = Duration::from_millis(100);

/// Bytes of QEMU's own messages that are kept for the report of its failure.
const LAST_WORDS: usize = 4 << 10;

/// Our ends of the connections to QEMU.
#[derive(Debug)]
pub(super) struct Streams {
    pub(super) console: UnixStream,
    pub(super) control: UnixStream,
    pub(super) monitor: UnixStream,
}

/// What QEMU works with.
#[derive(Debug)]
pub(super) struct Parts {
    /// Descriptors that its arguments name.
    pub(super) inherited: Vec<OwnedFd>,
    /// Our ends of its connections.
    pub(super) streams: Streams,
    /// What serves its shares.
    pub(super) servers: Vec<ShareServer>,
    /// What compresses for it.
    pub(super) compressor: Compressor,
    /// The private image that takes what the guest writes to its disk, if there is one.
    pub(super) changes: Option<File>,
}

/// What the thread that follows QEMU and its owner share.
#[derive(Debug)]
struct Shared {
    process: Mutex<std::process::Child>,
    monitor: UnixStream,
    killed: AtomicBool,
    peak_memory: AtomicU64,
    disk: Mutex<Option<Moved>>,
    shares: Vec<Traffic>,
}

/// A running QEMU.
#[derive(Debug)]
pub(super) struct Child {
    shared: Arc<Shared>,
    follower: Option<JoinHandle<()>>,
    changes: Option<File>,
    ports: Ports,
    /// `None` once the channel of events is abandoned.
    gate: Option<EventGate>,
    /// Ends when QEMU has.
    _compressor: Compressor,
}

impl Child {
    /// Starts QEMU with `arguments`, which name the descriptors of `parts`.
    pub(super) fn spawn(
        program: &Path,
        arguments: Vec<OsString>,
        parts: Parts,
        events: EventSender,
    ) -> io::Result<Child> {
        let Parts {
            inherited,
            mut streams,
            servers,
            compressor,
            changes,
        } = parts;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C at the terminal is for boxbuild alone.
            .process_group(0);
        inherit(&mut command, &inherited);
        let mut process = command.spawn()?;
        drop(inherited);
        streams.monitor.write_all(Monitor::HELLO)?;
        let errors = process
            .stderr
            .take()
            .ok_or_else(|| other("no standard error"))?;
        let shared = Arc::new(Shared {
            process: Mutex::new(process),
            monitor: streams.monitor.try_clone()?,
            killed: AtomicBool::new(false),
            peak_memory: AtomicU64::new(0),
            disk: Mutex::new(None),
            shares: servers.iter().map(ShareServer::traffic).collect(),
        });
        let ports = Ports {
            console: streams.console.try_clone()?,
            control: streams.control.try_clone()?,
        };
        let (events, gate) = events.gated();
        let follower = Follower {
            shared: Arc::clone(&shared),
            streams,
            errors: errors.into(),
            last_words: Vec::new(),
            monitor: Monitor::default(),
            fault: None,
            events,
        };
        let follower = std::thread::Builder::new()
            .name(String::from("qemu"))
            .spawn(move || follower.run(servers))?;
        Ok(Child {
            shared,
            follower: Some(follower),
            changes,
            ports,
            gate: Some(gate),
            _compressor: compressor,
        })
    }
}

impl Running for Child {
    fn kill(&mut self, grace: Duration) {
        if self.shared.exited() {
            return;
        }
        self.shared.killed.store(true, Ordering::Relaxed);
        if !grace.is_zero() && (&self.shared.monitor).write_all(Monitor::QUIT).is_ok() {
            let deadline = Instant::now() + grace;
            while !self.shared.exited() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Nothing of a throw-away machine is lost. An error means that it is gone already.
        let _ = self.shared.process().kill();
    }

    fn peak_memory(&self) -> Option<u64> {
        Some(self.shared.peak_memory.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        let (console, control) = self.ports.try_clone().ok()?;
        Some(Arc::new(Ports { console, control }))
    }

    fn keep_disk(&self, folder: &Path) -> io::Result<Option<u64>> {
        self.changes
            .as_ref()
            .map(|changes| overlay::keep(changes, folder))
            .transpose()
    }

    fn usage(&self) -> Usage {
        let pid = self.shared.process().id().to_string();
        let (memory, processor) = usage::usage(&pid);
        let disk = self.shared.disk.lock();
        Usage {
            memory,
            processor,
            disk: *disk.unwrap_or_else(PoisonError::into_inner),
            shares: Moved::sum(&self.shared.shares),
            // QEMU's user network does not count.
            network: None,
        }
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

/// What the host says to the guest.
#[derive(Debug)]
struct Ports {
    console: UnixStream,
    control: UnixStream,
}

impl Ports {
    fn try_clone(&self) -> io::Result<(UnixStream, UnixStream)> {
        Ok((self.console.try_clone()?, self.control.try_clone()?))
    }
}

impl Console for Ports {
    fn send(&self, bytes: &[u8]) {
        say(&self.console, bytes);
    }

    fn resize(&self, columns: u16, rows: u16) {
        say(&self.control, size_line(columns, rows).as_bytes());
    }
}

/// Never waits: a guest that does not read holds nothing up.
fn say(stream: &UnixStream, bytes: &[u8]) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // What is not taken is lost.
    let _ = send(stream.as_raw_fd(), bytes, flags);
}

impl Shared {
    fn process(&self) -> std::sync::MutexGuard<'_, std::process::Child> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> Option<ExitStatus> {
        self.process().try_wait().ok().flatten()
    }

    fn exited(&self) -> bool {
        self.status().is_some()
    }
}

/// Lets the child inherit `descriptors`, and die with this process.
fn inherit(command: &mut Command, descriptors: &[OwnedFd]) {
    let numbers: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec, only fcntl, prctl and getppid are called, which are
    // async-signal-safe; nothing is allocated. The descriptors are open until after spawn().
    unsafe {
        command.pre_exec(move || {
            for number in &numbers {
                let descriptor = BorrowedFd::borrow_raw(*number);
                nix::fcntl::fcntl(
                    descriptor,
                    nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
                )?;
            }
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the call.
            if nix::unistd::getppid() != parent {
                return Err(io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
    }
}

/// Reads everything QEMU says until it is gone.
struct Follower {
    shared: Arc<Shared>,
    streams: Streams,
    errors: OwnedFd,
    last_words: Vec<u8>,
    monitor: Monitor,
    /// Why a share does not work any more.
    fault: Option<String>,
    events: EventSender,
}

/// One of the things QEMU writes to.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    Console,
    Control,
    Monitor,
    Errors,
}

impl Follower {
    fn run(mut self, servers: Vec<ShareServer>) {
        let mut open = vec![
            Source::Console,
            Source::Control,
            Source::Monitor,
            Source::Errors,
        ];
        let mut looked = Instant::now();
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
            // The guest would wait for ever for answers that do not come.
            self.fault = servers.iter().find_map(ShareServer::fault);
            if self.monitor.no_space || self.fault.is_some() {
                let _ = self.shared.process().kill();
            }
            if looked.elapsed() > Duration::from_secs(1) {
                looked = Instant::now();
                self.measure();
            }
        };
        // The shares are still before the end is told: what is in them is final.
        drop(servers);
        let ended = self.judge(status);
        self.events.end(ended);
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
            return Ended::Failed(String::from(
                "the file system with the box's writable disk is full: free some space, or set \
                 KIWI_BOXED_CACHE_DIR to a folder on another one",
            ));
        }
        if let Some(fault) = &self.fault {
            return Ended::Failed(format!("the guest broke the rules of its shares: {fault}"));
        }
        if self.shared.killed.load(Ordering::Relaxed) {
            return Ended::Killed;
        }
        match self.monitor.shutdown {
            Some(Shutdown::Guest) if status.success() => Ended::PoweredOff,
            Some(Shutdown::Reset) if status.success() => Ended::Reset,
            _ => {
                let how = match status.signal() {
                    Some(signal) => format!("QEMU was killed by signal {signal}"),
                    None => format!("QEMU ended with {status}"),
                };
                let colon = if words.is_empty() { "" } else { ": " };
                Ended::Failed(format!("{how}{colon}{words}"))
            }
        }
    }
}
