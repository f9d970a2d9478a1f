//! Cleaning up when a signal ends a program that has made temporary files.
//!
//! While an [`Unwind`] lives, SIGINT, SIGTERM and SIGHUP end the running child instead of this
//! program: its failure unwinds the callers, which remove what they have made. The program then
//! ends with 128 and the signal's number.

use std::io;
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static CAUGHT: AtomicI32 = AtomicI32::new(0);
static UNWINDS: AtomicUsize = AtomicUsize::new(0);
/// The child of [`start`] that runs; 0 if there is none.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// Holds back signals until what was made in its scope is removed. Make it before that.
#[derive(Debug)]
pub struct Unwind(());

impl Unwind {
    /// Begins to hold back signals.
    ///
    /// # Errors
    /// If signals cannot be caught.
    pub fn begin() -> io::Result<Unwind> {
        static WATCHING: OnceLock<()> = OnceLock::new();
        UNWINDS.fetch_add(1, Ordering::SeqCst);
        let unwind = Unwind(());
        if WATCHING.set(()).is_ok() {
            let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
            std::thread::spawn(move || signals.forever().for_each(caught));
        }
        Ok(unwind)
    }
}

impl Drop for Unwind {
    fn drop(&mut self) {
        let last = UNWINDS.fetch_sub(1, Ordering::SeqCst) == 1;
        let signal = CAUGHT.load(Ordering::SeqCst);
        if last && signal != 0 {
            std::process::exit(128 + signal);
        }
    }
}

fn caught(signal: i32) {
    if UNWINDS.load(Ordering::SeqCst) == 0 {
        std::process::exit(128 + signal);
    }
    CAUGHT.store(signal, Ordering::SeqCst);
    let child = CHILD.load(Ordering::SeqCst);
    if child != 0 {
        let _ = kill(Pid::from_raw(child), Signal::SIGTERM);
    }
}

/// A child that ends when a signal is caught. One at a time.
#[derive(Debug)]
pub struct Running(Child);

/// Starts a command.
///
/// # Errors
/// If it cannot be started, or a signal has been caught.
pub fn start(command: &mut Command) -> io::Result<Running> {
    if CAUGHT.load(Ordering::SeqCst) != 0 {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let child = command.spawn()?;
    CHILD.store(child.id().cast_signed(), Ordering::SeqCst);
    // One that came in between found no child to end.
    if CAUGHT.load(Ordering::SeqCst) != 0 {
        let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
    }
    Ok(Running(child))
}

impl Running {
    /// Waits for its end.
    ///
    /// # Errors
    /// If that fails.
    pub fn wait_with_output(self) -> io::Result<Output> {
        let output = self.0.wait_with_output();
        CHILD.store(0, Ordering::SeqCst);
        output
    }
}
