//! A root tree that is run once, in a container of its own, and thrown away.
//!
//! The tree is unpacked into a private folder by the user who owns the container: as a normal user in
//! the user namespace of a rootless one. The container has neither a network nor a file of the host,
//! and no more capabilities than a system's own programs need. What the program in it writes arrives
//! as [`Event::Console`].

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use boxbuild_host::program;
use boxbuild_host::reaper::{Reaper, die_with_parent};
use boxbuild_host::text::plain;
use nix::sys::signal::Signal;
use nix::unistd::getuid;

use super::caller::Caller;
use super::container::Mode;
use super::error::{ContainerError, io_error};
use super::folder::unique_name;
use super::host::Host;
use super::reaper::ContainerReaper;
use crate::channel::{EventGate, EventSender};
use crate::event::{Ended, Event};
use crate::handle::{Console, Running};
use crate::unusable::Unusable;

/// How often podman is looked at.
const TICK: Duration = Duration::from_millis(20);
/// Time for podman to end once its container is removed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Capabilities of the container: what packages' own programs need (podman's default without those
/// for devices and raw sockets).
const CAPABILITIES: &str = "CHOWN,DAC_OVERRIDE,FOWNER,FSETID,KILL,NET_BIND_SERVICE,SETFCAP,SETGID,\
                            SETPCAP,SETUID,SYS_CHROOT";
/// podman ends with it if it cannot run the container (podman-run(1), "Exit Status").
const NOT_RUN: i32 = 125;
/// Bytes of a program's complaints that are shown.
const MOST_COMPLAINTS: u64 = 1 << 10;
/// Most processes in it.
const PROCESSES: &str = "4096";

/// A root tree, unpacked.
#[derive(Debug)]
pub struct RootTree {
    caller: Caller,
    host: Host,
    name: String,
    folder: PathBuf,
    /// Removes the folder. Declared last: what is in it goes before.
    _reaper: Reaper,
}

impl RootTree {
    /// Checks podman, and makes a folder in `scratch`.
    ///
    /// # Errors
    /// If podman does not work here, or there can be no folder.
    pub fn begin(scratch: &Path) -> Result<RootTree, ContainerError> {
        let mode = if getuid().is_root() {
            Mode::Rootful
        } else {
            Mode::Rootless
        };
        let caller = Caller::find(mode, false)?;
        let host = Host::examine(&caller, mode)?;
        let name = unique_name();
        let folder = scratch.join(&name);
        let made = || -> io::Result<Reaper> {
            std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
            // Others own what is in the tree of a normal user.
            let remove: Vec<OsString> = match mode {
                Mode::Rootful => vec!["rm".into(), "-rf".into()],
                Mode::Rootless => vec![
                    host.program.clone().into(),
                    "unshare".into(),
                    "rm".into(),
                    "-rf".into(),
                ],
            };
            Reaper::watch_tree(&folder, &remove)
        };
        let action = format!("make the folder {}", folder.display());
        let _reaper = made().map_err(io_error(&action))?;
        let root = folder.join("root");
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&root)
            .map_err(io_error(&action))?;
        Ok(RootTree {
            caller,
            host,
            name,
            folder,
            _reaper,
        })
    }

    /// Whether root runs it.
    pub fn is_rootful(&self) -> bool {
        self.host.mode == Mode::Rootful
    }

    /// Unpacks the archive that `write` writes: one in which no name leads out of it.
    ///
    /// # Errors
    /// With the error of `write`, or if tar fails.
    pub fn unpack<E>(
        &self,
        write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), E>,
    ) -> Result<Result<(), E>, ContainerError> {
        let tar = program::find("tar")
            .ok_or_else(|| Unusable(String::from("the program tar is not installed")))?;
        let mut words: Vec<OsString> = Vec::new();
        if self.host.mode == Mode::Rootless {
            words.extend([self.host.program.clone().into(), "unshare".into()]);
        }
        words.push(tar.into());
        words.extend(["-x", "-p", "--numeric-owner", "-C"].map(OsString::from));
        words.push(self.folder.join("root").into());
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words).current_dir("/").stdout(Stdio::null());
        die_with_parent(&mut command, Signal::SIGKILL);
        let (written, status, complaints) = feed(command, write).map_err(io_error("run tar"))?;
        if written.is_ok() && !status.success() {
            return Err(ContainerError::Podman {
                action: String::from("unpack the image"),
                output: complaints,
            });
        }
        Ok(written)
    }

    /// The arguments of podman that run `command` in it.
    fn arguments(&self, terminal: bool, command: &[OsString]) -> Vec<OsString> {
        let mut args = self.host.global_options();
        let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
        add(&["run", "--rm", "--interactive", "--name", &self.name]);
        add(&["--label", "org.boxbuild=image", "--log-driver", "none"]);
        add(&[
            "--network",
            "none",
            "--http-proxy=false",
            "--cap-drop",
            "all",
        ]);
        add(&["--cap-add", CAPABILITIES, "--pids-limit", PROCESSES]);
        add(&["--hostname", "image", "--env", "TERM=dumb"]);
        for limit in Host::limits() {
            add(&["--ulimit", &limit]);
        }
        if terminal {
            add(&["--tty"]);
        }
        args.push("--rootfs".into());
        args.push(self.folder.join("root").into());
        args.extend(command.iter().cloned());
        args
    }

    fn watch(&self) -> Result<ContainerReaper, ContainerError> {
        // That of the container has a folder of its own to remove, which is none.
        let nothing = self.folder.join("none");
        ContainerReaper::watch(&self.caller, &self.host, &self.name, &nothing)
            .map_err(io_error("start the process that cleans up the container"))
    }

    /// Starts `command` in it. Events go to `events`.
    ///
    /// # Errors
    /// If podman cannot be started.
    pub fn start(
        &self,
        command: &[OsString],
        events: EventSender,
    ) -> Result<RootRun, ContainerError> {
        let reaper = self.watch()?;
        let arguments = self.arguments(false, command);
        let mut podman = self.caller.command(&self.host.program, arguments);
        podman
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        die_with_parent(&mut podman, Signal::SIGKILL);
        RootRun::spawn(podman, reaper, events).map_err(io_error("start podman"))
    }

    /// Runs `command` in it with this process's terminal.
    ///
    /// # Errors
    /// If podman cannot be started, or cannot run it.
    pub fn attach(&self, command: &[OsString]) -> Result<(), ContainerError> {
        let _reaper = self.watch()?;
        let mut podman = Command::new(&self.host.program);
        podman.args(self.arguments(true, command)).current_dir("/");
        die_with_parent(&mut podman, Signal::SIGKILL);
        let status = podman.status().map_err(io_error("start podman"))?;
        if status.code() == Some(NOT_RUN) {
            return Err(ContainerError::Podman {
                action: String::from("run the container"),
                // It is on the terminal.
                output: String::new(),
            });
        }
        Ok(())
    }

    /// Whether the tree has the file `path`, which begins with a slash, or a link of that name.
    pub fn has(&self, path: &str) -> bool {
        let path = self.folder.join("root").join(path.trim_start_matches('/'));
        path.symlink_metadata().is_ok()
    }
}

/// Runs a program with what `write` writes as its standard input. Returns what `write` did, how the
/// program ended, and its first complaints. All of them are read while it runs: an image can have tar
/// complain of each of its files, and a program whose complaints are not read reads nothing more.
fn feed<E>(
    mut command: Command,
    write: impl FnOnce(&mut (dyn Write + Send)) -> Result<(), E>,
) -> io::Result<(Result<(), E>, ExitStatus, String)> {
    command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let (input, errors) = (child.stdin.take(), child.stderr.take());
    let reader = std::thread::Builder::new().spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut errors) = errors {
            // What was read before an error is all that there is.
            let _ = (&mut errors).take(MOST_COMPLAINTS).read_to_end(&mut bytes);
            let _ = io::copy(&mut errors, &mut io::sink());
        }
        bytes
    });
    let written = match (&reader, input) {
        (Ok(_), Some(mut input)) => write(&mut input),
        _ => Ok(()),
    };
    if written.is_err() || reader.is_err() {
        // It may be gone already.
        let _ = child.kill();
    }
    let status = child.wait()?;
    let complaints = reader?.join().unwrap_or_default();
    let lines = complaints.split(|byte| *byte == b'\n').map(plain);
    let lines: Vec<String> = lines.filter(|line| !line.trim().is_empty()).collect();
    Ok((written, status, lines.join("; ")))
}

/// A container that runs.
#[derive(Debug)]
pub struct RootRun {
    shared: Arc<Shared>,
    follower: Option<JoinHandle<()>>,
    gate: Option<EventGate>,
    input: Arc<Input>,
}

#[derive(Debug)]
struct Shared {
    reaper: Mutex<Option<ContainerReaper>>,
    killed: Mutex<Option<Instant>>,
    code: Mutex<Option<i32>>,
}

impl RootRun {
    fn spawn(
        mut command: Command,
        reaper: ContainerReaper,
        events: EventSender,
    ) -> io::Result<RootRun> {
        let mut process = command.spawn()?;
        let (events, gate) = events.gated();
        let input = Arc::new(Input(Mutex::new(process.stdin.take())));
        let shared = Arc::new(Shared {
            reaper: Mutex::new(Some(reaper)),
            killed: Mutex::new(None),
            code: Mutex::new(None),
        });
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            process.stdout.take().map(|pipe| Box::new(pipe) as _),
            process.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        let mut readers = Vec::new();
        for stream in streams.into_iter().flatten() {
            let events = events.clone();
            let read = move || read(stream, &events);
            readers.push(std::thread::Builder::new().spawn(read)?);
        }
        let following = Arc::clone(&shared);
        let follower = std::thread::Builder::new()
            .name(String::from("podman"))
            .spawn(move || following.follow(process, &readers, &events))?;
        Ok(RootRun {
            shared,
            follower: Some(follower),
            gate: Some(gate),
            input,
        })
    }

    /// The code that its command ended with, once it has.
    pub fn exit_code(&self) -> Option<i32> {
        *lock(&self.shared.code)
    }
}

impl Shared {
    fn follow(
        &self,
        mut process: std::process::Child,
        readers: &[JoinHandle<()>],
        events: &EventSender,
    ) {
        let status = loop {
            match process.try_wait() {
                Ok(Some(status)) => break Some(status),
                Ok(None) => {}
                Err(_) => break None,
            }
            if lock(&self.killed).is_some_and(|deadline| Instant::now() > deadline) {
                let _ = process.kill();
                let _ = process.wait();
                break None;
            }
            std::thread::sleep(TICK);
        };
        let deadline = Instant::now() + Duration::from_secs(2);
        while readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < deadline {
            std::thread::sleep(TICK);
        }
        // It waits until the container is gone.
        let reaper = lock(&self.reaper).take();
        drop(reaper);
        let code = status.and_then(|status| status.code());
        *lock(&self.code) = code;
        let killed = lock(&self.killed).is_some();
        events.end(match code {
            _ if killed => Ended::Killed,
            Some(NOT_RUN) => Ended::Failed(String::from("podman cannot run the container")),
            Some(_) => Ended::PoweredOff,
            None => Ended::Failed(String::from("podman was killed")),
        });
    }
}

fn read(mut stream: impl Read, events: &EventSender) {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => events.send(Event::Console(buffer[..count].to_vec())),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

impl Running for RootRun {
    fn kill(&mut self, _grace: Duration) {
        lock(&self.shared.killed).get_or_insert_with(|| Instant::now() + PATIENCE);
        if let Some(reaper) = lock(&self.shared.reaper).as_mut() {
            reaper.stop(Duration::ZERO);
        }
    }

    fn peak_memory(&self) -> Option<u64> {
        None
    }

    fn console(&self) -> Option<Arc<dyn Console>> {
        Some(Arc::clone(&self.input) as Arc<dyn Console>)
    }

    fn keep_disk(&self, _folder: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }
}

impl Drop for RootRun {
    fn drop(&mut self) {
        self.gate = None;
        self.kill(Duration::ZERO);
        if let Some(follower) = self.follower.take() {
            // A panic of the follower has been printed; there is nothing to add here.
            let _ = follower.join();
        }
    }
}

/// What is typed. A program without a terminal reads lines.
#[derive(Debug)]
struct Input(Mutex<Option<ChildStdin>>);

impl Console for Input {
    fn send(&self, bytes: &[u8]) {
        let typed: Vec<u8> = bytes
            .iter()
            .map(|byte| if *byte == b'\r' { b'\n' } else { *byte })
            .collect();
        if let Some(input) = lock(&self.0).as_mut() {
            // A container that is gone reads nothing. What fits a pipe is taken at once.
            let _ = nix::fcntl::fcntl(
                &*input,
                nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK),
            );
            let _ = input.write_all(&typed);
        }
    }

    fn resize(&self, _columns: u16, _rows: u16) {}

    /// A container has no disk of its own.
    fn answer_checkpoint(&self, _kept: bool) {}

    fn tell_time(&self, _time: Duration) {}
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// tar complains of each file with a time in the future, and the pipe for that has room for 64 KiB.
    #[test]
    fn a_program_that_complains_a_lot_is_fed_to_its_end() {
        let (done, finished) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut command = Command::new("sh");
            let script = "printf 'one\\033[2J\\ntwo\\n' >&2; head -c 300000 /dev/zero >&2; \
                          test $(wc -c) = 1000000 && exit 7";
            command.args(["-c", script]).stdout(Stdio::null());
            let fed = feed(command, |input| input.write_all(&vec![1; 1_000_000]));
            let _ = done.send(fed);
        });
        let fed = finished.recv_timeout(Duration::from_secs(60));
        let (written, status, complaints) = fed.unwrap().unwrap();
        written.unwrap();
        assert_eq!(status.code(), Some(7));
        assert!(complaints.starts_with("one"), "{complaints}");
        assert!(complaints.contains("; two"), "{complaints}");
        assert!(!complaints.contains('\x1b'), "{complaints}");
        assert!(complaints.len() < 4096);
    }
}
