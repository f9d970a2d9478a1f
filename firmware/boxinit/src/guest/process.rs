//! Processes: runs commands and reaps what falls to process 1. Meanwhile it reports signs of life
//! and passes requests to stop on.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use boxbuild_protocol::report::Report;
use boxinit::seccomp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::control::Control;
use super::resources::Resources;

/// Interval of the signs of life.
const BEAT: Duration = Duration::from_secs(5);

/// Supervises all processes of the box.
#[derive(Debug)]
pub(super) struct Supervisor {
    signals: SignalFd,
    last_beat: Option<Instant>,
    stop_requested: bool,
    resources: Resources,
}

/// How a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpawnMode {
    /// In a process group of its own, with a filter that makes fsync(2) and its like return at once
    /// (see [`seccomp`]).
    NoSync,
    /// In a process group of its own.
    Plain,
    /// In a session of its own with standard input as its controlling terminal.
    OnTerminal,
}

impl Supervisor {
    /// Takes over this process's signals. Must be called once, before there are other threads.
    pub(super) fn new() -> nix::Result<Supervisor> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGPWR,
        ] {
            mask.add(signal);
        }
        mask.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Supervisor {
            signals: SignalFd::with_flags(&mask, flags)?,
            last_beat: None,
            stop_requested: false,
            resources: Resources::default(),
        })
    }

    /// Whether a signal has asked this process to stop.
    pub(super) fn stop_requested(&self) -> bool {
        self.stop_requested
    }

    /// Runs a command and waits for it.
    ///
    /// # Errors
    /// If it does not start.
    pub(super) fn run(
        &mut self,
        mut command: Command,
        mode: SpawnMode,
        control: &mut Control,
    ) -> io::Result<ExitStatus> {
        prepare(&mut command, mode);
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id() as libc::pid_t);
        loop {
            let ended = reap(pid);
            // Also after its end: what it ran out of may be why.
            self.resources.look(control);
            if let Some(status) = ended {
                return Ok(status);
            }
            self.wait(control);
            if self.take_signals() {
                self.stop_requested = true;
                // Fails if it has just ended.
                let _ = killpg(pid, Signal::SIGTERM);
            }
        }
    }

    /// Kills all other processes.
    pub(super) fn kill_all(&mut self) {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        while waitpid(None, None).is_ok() {}
    }

    /// Starts a background process without standard streams.
    pub(super) fn start_daemon(&mut self, mut command: Command) -> io::Result<()> {
        prepare(&mut command, SpawnMode::Plain);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map(drop)
    }

    /// Reports a sign of life if one is due.
    pub(super) fn beat(&mut self, control: &mut Control) {
        if self.last_beat.is_some_and(|last| last.elapsed() < BEAT) {
            return;
        }
        self.last_beat = Some(Instant::now());
        control.report(Report::Beat(ticks().unwrap_or(0)));
    }

    /// Waits for a signal, at most until the next sign of life is due.
    fn wait(&mut self, control: &mut Control) {
        self.beat(control);
        let left = BEAT.saturating_sub(self.last_beat.map_or(BEAT, |last| last.elapsed()));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // The caller checks for ended processes in any case.
        let _ = poll(&mut ready, timeout);
    }

    /// Takes all pending signals. Returns whether one asks to stop.
    fn take_signals(&self) -> bool {
        let mut stop = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            stop |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        stop
    }
}

/// Reaps every process that has ended. Returns the status of `child` if it is among them.
fn reap(child: Pid) -> Option<ExitStatus> {
    let mut found = None;
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, (code & 0xff) << 8),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return found,
            Ok(_) => continue,
        };
        if pid == child {
            found = Some(ExitStatus::from_raw(status));
        }
    }
}

/// Has the command start with no signal blocked, and as `mode` says.
fn prepare(command: &mut Command, mode: SpawnMode) {
    if mode != SpawnMode::OnTerminal {
        command.process_group(0);
    }
    let filter: Vec<libc::sock_filter> = match mode {
        SpawnMode::Plain | SpawnMode::OnTerminal => Vec::new(),
        SpawnMode::NoSync => seccomp::filter()
            .into_iter()
            .map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
            .collect(),
    };
    let between_fork_and_exec = move || {
        SigSet::empty().thread_set_mask()?;
        if mode == SpawnMode::OnTerminal {
            // If this fails, the shell only lacks job control.
            // SAFETY: neither call touches memory.
            unsafe {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 1);
            }
        }
        if !filter.is_empty() {
            let program = libc::sock_fprog {
                len: filter.len() as u16,
                filter: filter.as_ptr().cast_mut(),
            };
            // Without the filter the build is slower, not wrong.
            // SAFETY: the program lives through the call, and the kernel only reads it.
            unsafe {
                libc::prctl(
                    libc::PR_SET_SECCOMP,
                    libc::SECCOMP_MODE_FILTER,
                    &raw const program,
                );
            }
        }
        Ok(())
    };
    // SAFETY: what runs between fork and exec makes system calls and allocates nothing.
    unsafe { command.pre_exec(between_fork_and_exec) };
}

/// Processor time used so far, in 1/100 s (proc_stat(5): user, nice, system).
fn ticks() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let mut numbers = stat.lines().next()?.split_ascii_whitespace().skip(1);
    let mut sum = 0;
    for _ in 0..3 {
        sum += numbers.next()?.parse::<u64>().ok()?;
    }
    Some(sum)
}
