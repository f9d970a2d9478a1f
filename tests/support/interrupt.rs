//! Cleaning up when a signal ends a program that has made temporary files.
//!
//! While an [`Unwind`] lives, SIGINT, SIGTERM and SIGHUP end the running child instead of this
//! program: its failure unwinds the callers, which remove what they have made. The program then
//! ends with 128 and the signal's number.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use nix::sys::signal::{Signal, killpg};
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
        let _ = killpg(Pid::from_raw(child), Signal::SIGTERM);
    }
}

/// A child in a process group of its own, which is ended when a signal is caught: mmdebstrap passes
/// none on to its own children. One at a time.
#[derive(Debug)]
pub struct Running(Child);

/// Starts a command in a process group of its own.
///
/// # Errors
/// If it cannot be started, or a signal has been caught.
pub fn start(command: &mut Command) -> io::Result<Running> {
    if CAUGHT.load(Ordering::SeqCst) != 0 {
        return Err(io::ErrorKind::Interrupted.into());
    }
    let child = command.process_group(0).spawn()?;
    CHILD.store(child.id().cast_signed(), Ordering::SeqCst);
    // One that came in between found no child to end.
    if CAUGHT.load(Ordering::SeqCst) != 0 {
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
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

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::*;

    /// Set in the process that is interrupted: where it works.
    const FOLDER: &str = "BOXBUILD_TEST_INTERRUPTED";

    fn work_and_clean_up(folder: &Path) {
        let _unwind = Unwind::begin().unwrap();
        let _work = tempfile::tempdir_in(folder).unwrap();
        // A grandchild, too, as package managers have.
        let script = "sleep 1000 & echo $! >\"$0.new\"; mv \"$0.new\" \"$0\"; wait";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(folder.join("child"));
        start(&mut command).unwrap().wait_with_output().unwrap();
    }

    #[test]
    fn a_signal_ends_children_and_leaves_nothing() {
        if let Some(folder) = std::env::var_os(FOLDER) {
            return work_and_clean_up(Path::new(&folder));
        }
        let folder = tempfile::tempdir().unwrap();
        let mut interrupted = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "interrupt::tests::a_signal_ends_children_and_leaves_nothing",
            ])
            .env(FOLDER, folder.path())
            .spawn()
            .unwrap();
        let child = folder.path().join("child");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !child.exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let pid = Pid::from_raw(interrupted.id().cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
        let status = interrupted.wait().unwrap();
        assert_eq!(status.code(), Some(128 + SIGTERM));
        assert_eq!(crate::names(folder.path()), ["child"]);
        let grandchild = std::fs::read_to_string(child).unwrap();
        let words = format!("/proc/{}/cmdline", grandchild.trim());
        // A zombie has none.
        while std::fs::read(&words).is_ok_and(|words| !words.is_empty()) {
            assert!(Instant::now() < deadline, "a process is left");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
