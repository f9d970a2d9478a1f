//! The parent's side of the start: [`Launch`] → [`Jailed`] → [`Exit`].

use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use serde::Serialize;

use crate::channel::Channel;
use crate::role::FIRST_WORD;
use crate::seccomp::TRAPPED;

/// Bytes of the child's own messages that are kept.
const LAST_WORDS: usize = 4 << 10;

/// The program that is started: one that calls [`enter`](crate::enter).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program(PathBuf);

impl Program {
    /// Returns this program, also if its file has been replaced or removed meanwhile.
    pub fn this() -> Program {
        Program(PathBuf::from("/proc/self/exe"))
    }

    /// Returns the program at `path`: for tests and examples, which are none of boxbuild's roles.
    pub fn at(path: impl Into<PathBuf>) -> Program {
        Program(path.into())
    }
}

impl Default for Program {
    fn default() -> Program {
        Program::this()
    }
}

/// The start of a jailed process.
///
/// It has an empty environment, `/` as its working folder, `/dev/null` as standard output, a
/// process group of its own (so that Ctrl-C at a terminal does not reach it), and dies by SIGKILL
/// with the thread that started it. It inherits no descriptor; it gets those of
/// [`Launch::descriptor`].
#[derive(Debug)]
pub struct Launch<'a> {
    program: &'a Program,
    role: &'static str,
    descriptors: Vec<BorrowedFd<'a>>,
}

/// Why a jailed process cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The host refuses a process, or a descriptor.
    #[error("cannot start a jailed process of this program")]
    Start(#[source] io::Error),
    /// The configuration cannot be written.
    #[error("cannot write the configuration of a jailed process")]
    Config(#[from] serde_json::Error),
    /// The process did not take its configuration.
    #[error("cannot send a jailed process its configuration")]
    Send(#[source] io::Error),
}

impl<'a> Launch<'a> {
    /// Returns the start of `program` in the role of that name.
    pub fn new(program: &'a Program, role: &'static str) -> Launch<'a> {
        Launch {
            program,
            role,
            descriptors: Vec::new(),
        }
    }

    /// Adds an open file for the child. At most [`MAX_DESCRIPTORS`](crate::MAX_DESCRIPTORS).
    #[must_use]
    pub fn descriptor(mut self, file: &'a impl AsFd) -> Launch<'a> {
        self.descriptors.push(file.as_fd());
        self
    }

    /// Adds several.
    #[must_use]
    pub fn descriptors(mut self, files: Vec<BorrowedFd<'a>>) -> Launch<'a> {
        self.descriptors.extend(files);
        self
    }

    /// Starts the process and sends it `config`, without waiting for it.
    ///
    /// Must be called on a thread that outlives the process.
    ///
    /// # Errors
    /// If the host refuses, or the configuration is longer than a message.
    pub fn start(self, config: &impl Serialize) -> Result<Jailed, LaunchError> {
        let config = serde_json::to_vec(config)?;
        let (channel, theirs) = Channel::pair().map_err(LaunchError::Start)?;
        let mut child = self.spawn(theirs.into()).map_err(LaunchError::Start)?;
        let words = child.stderr.take().map(OwnedFd::from);
        if let Some(words) = &words {
            // Another process may hold the other end: its end must not be waited for.
            fcntl(words, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
                .map_err(|error| LaunchError::Start(error.into()))?;
        }
        let jailed = Jailed {
            pid: child.id(),
            channel,
            state: Mutex::new(State {
                child,
                words,
                exit: None,
            }),
        };
        jailed
            .channel
            .send(&config, &self.descriptors)
            .map_err(LaunchError::Send)?;
        Ok(jailed)
    }

    fn spawn(&self, channel: OwnedFd) -> io::Result<Child> {
        let parent = nix::unistd::getpid();
        let mut word = OsString::from(FIRST_WORD);
        word.push(self.role);
        let mut command = Command::new(&self.program.0);
        command
            .arg0("boxbuild")
            .arg(word)
            .env_clear()
            .current_dir("/")
            .stdin(channel)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        // SAFETY: between fork and exec, only close_range, fcntl, prctl, getppid and calls that
        // change the mask of signals are made, which are async-signal-safe.
        unsafe {
            command.pre_exec(move || {
                // Where it fails, the child closes them itself (Linux before 5.11).
                libc::syscall(
                    libc::SYS_close_range,
                    3,
                    u32::MAX,
                    libc::CLOSE_RANGE_CLOEXEC,
                );
                // What the parent does not read in time is dropped: the child never waits.
                let words = BorrowedFd::borrow_raw(libc::STDERR_FILENO);
                fcntl(words, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                // The parent may have died before the call.
                if nix::unistd::getppid() != parent {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                Ok(())
            });
        }
        command.spawn()
    }
}

/// A jailed process. Dropping it kills it.
#[derive(Debug)]
pub struct Jailed {
    pid: u32,
    channel: Channel,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    child: Child,
    words: Option<OwnedFd>,
    exit: Option<Exit>,
}

/// How a jailed process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The status of wait(2).
    pub status: ExitStatus,
    /// What it wrote to its standard error, at most the last 4 KiB: not to be shown before control
    /// characters are taken out.
    pub words: Vec<u8>,
}

impl Exit {
    /// Whether it ended by itself and without an error.
    pub fn is_good(&self) -> bool {
        self.status.success()
    }

    /// Whether a filter of system calls ended it.
    pub fn is_trapped(&self) -> bool {
        self.status.code() == Some(TRAPPED) || self.status.signal() == Some(libc::SIGSYS)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(TRAPPED), _) => f.write_str("it was stopped by its filter of system calls"),
            (Some(code), _) => write!(f, "it ended with exit code {code}"),
            (_, Some(libc::SIGXCPU)) => f.write_str("it used up its processor time"),
            (_, Some(libc::SIGKILL)) => f.write_str("it was killed"),
            (_, Some(signal)) => match Signal::try_from(signal) {
                Ok(signal) => write!(f, "it was ended by {signal}"),
                Err(_) => write!(f, "it was ended by signal {signal}"),
            },
            (None, None) => f.write_str("it ended"),
        }
    }
}

impl Jailed {
    /// Returns its process id. It is the process's until it has been waited for.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns the channel to it. An attacker in the process may have chosen what comes from there.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Kills it, if it is there.
    pub fn kill(&self) {
        let mut state = self.state();
        if state.exit.is_none() {
            // An error means that it is gone already.
            let _ = state.child.kill();
        }
    }

    /// Returns how it ended, if it has.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub fn exited(&self) -> io::Result<Option<Exit>> {
        let mut state = self.state();
        if state.exit.is_none()
            && let Some(status) = state.child.try_wait()?
        {
            let words = state.words.take().map(last_words).unwrap_or_default();
            state.exit = Some(Exit { status, words });
        }
        Ok(state.exit.clone())
    }

    /// Waits for its end; kills it after `time`.
    ///
    /// # Errors
    /// If the host cannot tell.
    pub fn wait(&self, time: Duration) -> io::Result<Exit> {
        let deadline = Instant::now() + time;
        let mut killed = false;
        // The channel would tell of the end, but not that the process is gone.
        let mut pause = Duration::from_micros(200);
        loop {
            if let Some(exit) = self.exited()? {
                return Ok(exit);
            }
            if !killed && Instant::now() >= deadline {
                self.kill();
                killed = true;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Jailed {
    fn drop(&mut self) {
        self.kill();
        // An error means that it is gone already.
        let _ = self.state().child.wait();
    }
}

/// Returns the end of what is in the pipe, whose other end is closed.
fn last_words(pipe: OwnedFd) -> Vec<u8> {
    let mut words = Vec::new();
    // A pipe holds 64 KiB. An error leaves what has been read.
    let _ = std::fs::File::from(pipe)
        .take(1 << 20)
        .read_to_end(&mut words);
    words.split_off(words.len().saturating_sub(LAST_WORDS))
}
