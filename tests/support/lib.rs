//! What end-to-end tests share: running boxbuild against the box `small`, and looking for
//! what it leaves behind.
//!
//! The box runs `script.sh` of the description in place of kiwi (tests/setup/small-box), so
//! a test decides what happens in the guest.

pub mod command;
pub mod debian;
pub mod interrupt;
pub mod lab;
pub mod pty;
pub mod publish;
pub mod small_box;
pub mod smoke;
pub mod sshd;
pub mod tree;

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far more than any of these runs needs on a busy machine.
fn patience() -> Duration {
    Duration::from_secs(patient(240).into())
}

/// Marks all processes of one test in their environment.
const MARK: &str = "BOXBUILD_TEST_MARK";

/// Where the program and the box are; or why the tests cannot run.
pub fn bed() -> Result<(PathBuf, PathBuf), String> {
    let get = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .ok_or_else(|| format!("{name} is not set: use make e2e"))
    };
    Ok((get("BOXBUILD")?, get("BOXBUILD_TEST_STORE")?))
}

/// Names of the boxes in `store` (tests/setup/small-box).
pub fn boxes(store: &Path) -> Vec<String> {
    let mut names = names(store);
    names.retain(|name| store.join(name).join("box.json").exists());
    names
}

/// The engine that is tested.
pub fn engine() -> String {
    std::env::var("BOXBUILD_TEST_ENGINE").unwrap_or_else(|_| String::from("qemu"))
}

/// A time in seconds that is longer in the lab, where a guest runs in an emulated machine.
pub fn patient(seconds: u32) -> u32 {
    if std::env::var_os("BOXBUILD_LAB").is_some() {
        seconds * 4
    } else {
        seconds
    }
}

/// A description folder, a target folder and a store of one's own.
#[derive(Debug)]
pub struct Bench {
    dir: tempfile::TempDir,
    mark: String,
    boxbuild: PathBuf,
    box_name: &'static str,
}

impl Bench {
    /// A bench whose guest runs `script`.
    pub fn new(script: &str) -> Bench {
        Bench::named(script, OsStr::new("description"), OsStr::new("target"))
    }

    /// The same with another box than `small`; `None` if there is no such box here.
    pub fn with_box(name: &'static str, script: &str) -> Option<Bench> {
        let (_, store) = bed().expect("checked before the tests ran");
        boxes(&store).iter().any(|known| known == name).then(|| {
            Bench::of(
                name,
                script,
                OsStr::new("description"),
                OsStr::new("target"),
            )
        })
    }

    /// The same with names of one's choice for the two folders.
    pub fn named(script: &str, description: &OsStr, target: &OsStr) -> Bench {
        Bench::of("small", script, description, target)
    }

    fn of(box_name: &'static str, script: &str, description: &OsStr, target: &OsStr) -> Bench {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (boxbuild, store) = bed().expect("checked before the tests ran");
        let dir = tempfile::Builder::new()
            .prefix("boxbuild-e2e-")
            .tempdir()
            .expect("a folder");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let bench = Bench {
            mark: format!("{}-{number}", std::process::id()),
            boxbuild,
            dir,
            box_name,
        };
        fs::create_dir(bench.path("names")).unwrap();
        bench.write_name("description", description);
        bench.write_name("target", target);
        fs::create_dir(bench.description()).unwrap();
        fs::write(bench.description().join("config.xml"), "<image/>").unwrap();
        bench.script(script);
        // A store of its own, with the box's files linked: what is left in it is seen.
        let small = bench.store().join(box_name);
        fs::create_dir_all(&small).unwrap();
        for entry in fs::read_dir(store.join(box_name)).unwrap() {
            let from = entry.unwrap().path();
            let to = small.join(from.file_name().unwrap());
            fs::hard_link(&from, &to)
                .or_else(|_| fs::copy(&from, &to).map(|_| ()))
                .unwrap();
        }
        bench
    }

    /// Gives this bench a disk of its own, which a build may write into.
    pub fn own_disk(&self) {
        let disk = self.store().join("small/disk.qcow2");
        let copy = self.store().join("copy");
        fs::copy(&disk, &copy).unwrap();
        fs::rename(copy, disk).unwrap();
    }

    fn write_name(&self, which: &str, name: &OsStr) {
        use std::os::unix::ffi::OsStrExt;
        fs::write(self.path("names").join(which), name.as_bytes()).unwrap();
    }

    fn name(&self, which: &str) -> PathBuf {
        use std::os::unix::ffi::OsStringExt;
        let bytes = fs::read(self.path("names").join(which)).unwrap();
        self.dir.path().join(std::ffi::OsString::from_vec(bytes))
    }

    /// A path below the bench.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The description folder.
    pub fn description(&self) -> PathBuf {
        self.name("description")
    }

    /// The target folder.
    pub fn target(&self) -> PathBuf {
        self.name("target")
    }

    /// The box store.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// Changes what the guest runs.
    pub fn script(&self, script: &str) {
        fs::write(self.description().join("script.sh"), script).unwrap();
    }

    /// Another description folder, whose guest runs `script`.
    pub fn describe(&self, name: &str, script: &str) -> PathBuf {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.xml"), "<image/>").unwrap();
        fs::write(folder.join("script.sh"), script).unwrap();
        folder
    }

    /// boxbuild with `args`, ready to be run.
    pub fn command<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.boxbuild);
        command
            .args(args)
            .env(MARK, &self.mark)
            .env("KIWI_BOXED_CACHE_DIR", self.store())
            .env("TMPDIR", self.temp())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The folder for temporary files of this bench alone.
    pub fn temp(&self) -> PathBuf {
        let temp = self.path("tmp");
        fs::create_dir_all(&temp).unwrap();
        temp
    }

    /// A build with options in front of the separator and behind it.
    pub fn build_command(&self, front: &[&str], back: &[&str]) -> Command {
        self.command_to(&self.target(), front, back)
    }

    /// Runs a build into another folder of the bench to its end.
    pub fn build_to(&self, target: &str, front: &[&str]) -> Said {
        let mut command = self.command_to(&self.path(target), front, &[]);
        Said::from(wait(command.spawn().expect("boxbuild starts")))
    }

    fn command_to(&self, target: &Path, front: &[&str], back: &[&str]) -> Command {
        let mut command = self.command(["--box", self.box_name]);
        if !front.contains(&"--engine") {
            command.args(["--engine", &engine()]);
        }
        if !front.iter().any(|word| word.starts_with("--keep-failed")) {
            command.arg("--keep-failed=no");
        }
        command
            .args(front)
            .arg("--")
            .arg("--description")
            .arg(self.description());
        command.arg("--target-dir").arg(target).args(back);
        command
    }

    /// Runs a build to its end.
    pub fn build(&self, front: &[&str], back: &[&str]) -> Said {
        finish(
            self.build_command(front, back)
                .spawn()
                .expect("boxbuild starts"),
        )
    }

    /// Runs boxbuild to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        finish(self.command(args).spawn().expect("boxbuild starts"))
    }

    /// Starts a build and waits until a line on standard error contains `text`. Returns the
    /// process and what it has said so far goes to a reader that is returned as well.
    pub fn start_until(&self, front: &[&str], text: &str) -> Started {
        let mut child = self
            .build_command(front, &[])
            .spawn()
            .expect("boxbuild starts");
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains(text) {
            let mut line = String::new();
            assert!(
                stderr.read_line(&mut line).unwrap() > 0,
                "ended before '{text}':\n{said}"
            );
            said += &line;
        }
        Started {
            child,
            said,
            stderr: Box::new(stderr),
        }
    }

    /// Processes of this bench that still run, by their names.
    pub fn processes(&self) -> Vec<String> {
        let mark = format!("{MARK}={}\0", self.mark);
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(Result::ok)
            .filter(|entry| {
                fs::read(entry.path().join("environ"))
                    .is_ok_and(|environ| find(&environ, mark.as_bytes()))
            })
            .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
            .collect()
    }

    /// Waits until the machine of the build `child` is being made.
    pub fn wait_for_machine(&self, child: &Child) {
        let threads = PathBuf::from(format!("/proc/{}/task", child.id()));
        let has_vcpu = || {
            fs::read_dir(&threads)
                .into_iter()
                .flatten()
                .filter_map(Result::ok)
                .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
                .any(|name| name.starts_with("vcpu"))
        };
        while !has_vcpu() && !self.processes().iter().any(|name| name.starts_with("qemu")) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Fails unless nothing of a build is left: no process, no temporary file, and in the
    /// store only the box.
    pub fn assert_nothing_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.processes().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.processes(), [] as [&str; 0], "processes are left");
        assert_eq!(
            names(&self.store()),
            [self.box_name],
            "files are left in the store"
        );
        assert_eq!(
            names(&self.temp()),
            [] as [&str; 0],
            "temporary files are left"
        );
    }
}

/// A build under way.
pub struct Started {
    /// The process.
    pub child: Child,
    said: String,
    stderr: Box<dyn Read>,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Started")
            .field("child", &self.child)
            .finish_non_exhaustive()
    }
}

impl Started {
    /// What it had said on standard error when it was started.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// Sends a signal to boxbuild, and only to it.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// Waits for the end.
    pub fn finish(mut self) -> Said {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        let mut said = Said::from(wait(self.child));
        said.stderr = self.said + &rest;
        said
    }
}

/// How boxbuild ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// The exit code; -1 if a signal killed it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Fails unless it ended with `code` and said all of `texts` on standard error.
    #[track_caller]
    pub fn expect(&self, code: i32, texts: &[&str]) {
        assert_eq!(
            self.code, code,
            "stdout:\n{}\nstderr:\n{}",
            self.stdout, self.stderr
        );
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "'{text}' is not in:\n{}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
    }
}

/// Names in a folder, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn find(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Waits for boxbuild, but not for ever.
pub fn finish(child: Child) -> Said {
    Said::from(wait(child))
}

/// Waits for a process, but not for ever.
fn wait(child: Child) -> Output {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (sender, done) = std::sync::mpsc::channel::<()>();
    let guard = std::thread::spawn(move || {
        if done.recv_timeout(patience()) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            let _ = kill(pid, Signal::SIGKILL);
        }
    });
    let output = child
        .wait_with_output()
        .expect("boxbuild can be waited for");
    drop(sender);
    guard.join().unwrap();
    output
}
