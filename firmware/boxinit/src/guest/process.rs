//! Processes: the one that is waited for, and all that fall to process 1. Signs of life go out
//! meanwhile, and requests to end are passed on.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use boxinit::seccomp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::control::Control;

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(5);

/// Watches over all processes of the box.
#[derive(Debug)]
pub(super) struct Supervisor {
    signals: SignalFd,
    last_beat: Option<Instant>,
    /// Somebody asked this process to end.
    pub(super) ending: bool,
}

/// How a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// In a process group of its own; requests to wait for the disk are answered at once (see
    /// [`seccomp`]).
    Impatient,
    /// In a process group of its own.
    Plain,
    /// In a session of its own, whose terminal is standard input.
    OnTerminal,
}

impl Supervisor {
    /// Takes over the signals of this process. There must be no other one yet.
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
            ending: false,
        })
    }

    /// Runs a command to its end; `Err` if it does not start.
    pub(super) fn run(
        &mut self,
        mut command: Command,
        how: How,
        control: &mut Control,
    ) -> io::Result<ExitStatus> {
        prepare(&mut command, how);
        let child = command.spawn()?;
        let pid = Pid::from_raw(child.id() as libc::pid_t);
        loop {
            if let Some(status) = reap(pid) {
                return Ok(status);
            }
            self.wait(control);
            if self.take_signals() {
                self.ending = true;
                // It may have ended just now.
                let _ = killpg(pid, Signal::SIGTERM);
            }
        }
    }

    /// Ends all other processes, at once.
    pub(super) fn end_all(&mut self) {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        while waitpid(None, None).is_ok() {}
    }

    /// Starts a command that nobody waits for and whose words nobody reads.
    pub(super) fn start_quiet(&mut self, mut command: Command) -> io::Result<()> {
        prepare(&mut command, How::Plain);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map(drop)
    }

    /// Reports a sign of life, with the processor time used so far, if it is time.
    pub(super) fn beat(&mut self, control: &mut Control) {
        if self.last_beat.is_some_and(|last| last.elapsed() < BEAT) {
            return;
        }
        self.last_beat = Some(Instant::now());
        control.report(&format!("beat {}", ticks().unwrap_or(0)));
    }

    /// Waits for a signal, but not beyond the next sign of life.
    fn wait(&mut self, control: &mut Control) {
        self.beat(control);
        let left = BEAT.saturating_sub(self.last_beat.map_or(BEAT, |last| last.elapsed()));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut ready = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // Interrupted or over: the caller looks again in any case.
        let _ = poll(&mut ready, timeout);
    }

    /// Takes all signals; true if one asks to end.
    fn take_signals(&self) -> bool {
        let mut end = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            end |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        end
    }
}

/// Takes the status of every process that ended; returns that of `wanted`.
fn reap(wanted: Pid) -> Option<ExitStatus> {
    let mut found = None;
    loop {
        let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, (code & 0xff) << 8),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return found,
            Ok(_) => continue,
        };
        if pid == wanted {
            found = Some(ExitStatus::from_raw(status));
        }
    }
}

/// No signal held back, and what else [`How`] says.
fn prepare(command: &mut Command, how: How) {
    if how != How::OnTerminal {
        command.process_group(0);
    }
    let filter: Vec<libc::sock_filter> = match how {
        How::Plain | How::OnTerminal => Vec::new(),
        How::Impatient => seccomp::filter()
            .into_iter()
            .map(|(code, jt, jf, k)| libc::sock_filter { code, jt, jf, k })
            .collect(),
    };
    let between = move || {
        SigSet::empty().thread_set_mask()?;
        if how == How::OnTerminal {
            // Without a terminal, the shell has no job control, and that is all.
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
    unsafe { command.pre_exec(between) };
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
