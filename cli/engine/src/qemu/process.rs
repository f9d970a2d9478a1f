//! QEMU as a child process.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boxbuild_vmm::net::StreamNetwork;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, send};

use super::checkpoint::Changes;
use super::compress::Compressor;
use super::confine::Confinement;
use super::follower::{Follower, Rules, Watched};
use super::monitor::Monitor;
use super::overlay;
use super::shared::{Shared, Streams};
use super::shares::ShareProcess;
use crate::channel::{EventGate, EventSender};
use crate::handle::{Console, Moved, Running, Usage, checkpoint_line, size_line, time_line};
use crate::usage;

/// What QEMU works with.
#[derive(Debug)]
pub(super) struct Parts {
    /// Descriptors that its arguments name.
    pub(super) inherited: Vec<OwnedFd>,
    /// What its monitor hears first.
    pub(super) hello: Vec<u8>,
    /// Our ends of its connections.
    pub(super) streams: Streams,
    /// Its network.
    pub(super) network: Option<StreamNetwork>,
    /// What serves its shares, if it has any.
    pub(super) servers: Option<ShareProcess>,
    /// What compresses for it.
    pub(super) compressor: Option<Compressor>,
    /// The private image that takes what the guest writes to its disk, if there is one.
    pub(super) changes: Option<Changes>,
    /// What QEMU may open by name.
    pub(super) confinement: Confinement,
    /// What else decides that the machine is to end.
    pub(super) rules: Rules,
}

/// A running QEMU.
#[derive(Debug)]
pub(super) struct Child {
    shared: Arc<Shared>,
    follower: Option<JoinHandle<()>>,
    changes: Option<Changes>,
    /// Answers to what is asked for a checkpoint.
    answers: Mutex<Receiver<Result<(), String>>>,
    ports: Ports,
    /// `None` once the channel of events is abandoned.
    gate: Option<EventGate>,
    network: Option<StreamNetwork>,
    /// Ends when QEMU has.
    _compressor: Option<Compressor>,
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
            hello,
            mut streams,
            network,
            servers,
            compressor,
            changes,
            confinement,
            rules,
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
        // SAFETY: it makes system calls only, all of which are async-signal-safe. Its rules are
        // open until after spawn().
        unsafe { command.pre_exec(confinement.apply()) };
        let mut process = command.spawn()?;
        drop((inherited, confinement));
        streams.monitor.write_all(&hello)?;
        let errors = process
            .stderr
            .take()
            .ok_or_else(|| io::Error::other("no standard error"))?;
        let shared = Arc::new(Shared {
            process: Mutex::new(process),
            monitor: streams.monitor.try_clone()?,
            killed: AtomicBool::new(false),
            peak_memory: AtomicU64::new(0),
            disk: Mutex::new(None),
            shares: servers
                .as_ref()
                .map(ShareProcess::traffic)
                .unwrap_or_default(),
        });
        let ports = Ports {
            console: streams.console.try_clone()?,
            control: streams.control.try_clone()?,
        };
        let (events, gate) = events.gated();
        let host = network.as_ref().map(StreamNetwork::host);
        let (steps, answers) = channel();
        let follower = Follower::new(
            Arc::clone(&shared),
            streams,
            errors.into(),
            Watched { host, steps },
            rules,
            events,
        );
        let follower = std::thread::Builder::new()
            .name(String::from("qemu"))
            .spawn(move || follower.run(servers))?;
        Ok(Child {
            shared,
            follower: Some(follower),
            changes,
            answers: Mutex::new(answers),
            ports,
            gate: Some(gate),
            network,
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
            .map(|changes| overlay::keep(&changes.top, folder))
            .transpose()
    }

    fn checkpoint(&mut self) -> io::Result<bool> {
        let Some(changes) = &mut self.changes else {
            return Ok(false);
        };
        let answers = self
            .answers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let taken = changes.checkpoint(&self.shared.monitor, answers);
        if taken
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::TimedOut)
        {
            // QEMU may do it yet: which images belong to the disk is not known any more.
            self.changes = None;
        }
        taken.map(|()| true)
    }

    fn keep_checkpoint(&self, folder: &Path) -> io::Result<Option<u64>> {
        let checkpoint = self
            .changes
            .as_ref()
            .and_then(|changes| changes.checkpoint.as_ref());
        checkpoint
            .map(|checkpoint| overlay::keep(checkpoint, folder))
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
            network: Moved::sum(self.network.as_ref().map(StreamNetwork::traffic).iter()),
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

    fn tell_time(&self, time: Duration) {
        say(&self.control, time_line(time).as_bytes());
    }

    fn answer_checkpoint(&self, kept: bool) {
        say(&self.control, checkpoint_line(kept).as_bytes());
    }
}

/// Never waits: a guest that does not read holds nothing up.
fn say(stream: &UnixStream, bytes: &[u8]) {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    // What is not taken is lost.
    let _ = send(stream.as_raw_fd(), bytes, flags);
}

/// Lets the child inherit `descriptors`, and die with this process.
pub(super) fn inherit(command: &mut Command, descriptors: &[OwnedFd]) {
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
