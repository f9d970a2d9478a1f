//! What a build must not leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::scaled_timeout;

/// The variable that marks all processes of one test in their environment.
pub const MARK: &str = "BOXBUILD_TEST_MARK";

/// Fails if `find` returns anything after 20 s: what ends by itself has that long.
#[track_caller]
pub fn assert_none(find: impl Fn() -> Vec<String>) {
    let deadline = Instant::now() + scaled_timeout(20);
    loop {
        let left = find();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the names of the running processes that have `mark` as the value of [`MARK`], and of those
/// that one of them has jailed: they have no environment, and what a normal user may read of them is
/// their command line and status. A jailed process whose parent is gone counts for every mark.
pub fn processes(mark: &str) -> Vec<String> {
    let mark = format!("{MARK}={mark}\0");
    let marked = |folder: &Path| {
        fs::read(folder.join("environ")).is_ok_and(|environ| {
            environ
                .windows(mark.len())
                .any(|window| window == mark.as_bytes())
        })
    };
    let reapers = ancestors();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(Result::ok)
        .filter(|entry| {
            let folder = entry.path();
            marked(&folder)
                || jailed_by(&folder).is_some_and(|parent| {
                    reapers.contains(&parent)
                        || marked(&Path::new("/proc").join(parent.to_string()))
                })
        })
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// Returns the parent of a process that boxbuild has jailed, by its folder in /proc; `None` for any
/// other.
fn jailed_by(folder: &Path) -> Option<i32> {
    let line = fs::read(folder.join("cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).skip(1);
    if !words.next()?.starts_with(b"jailed:") {
        return None;
    }
    parent_of(folder)
}

/// Returns the parent of a process, by its folder in /proc.
fn parent_of(folder: &Path) -> Option<i32> {
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    parent?.trim().parse().ok()
}

/// Returns this process and its ancestors. None of them jails anything; one of them gets what has lost its
/// parent: process 1, or a reaper before it such as a session's systemd (prctl(2),
/// `PR_SET_CHILD_SUBREAPER`).
fn ancestors() -> Vec<i32> {
    let mut process = std::process::id().cast_signed();
    let mut found = vec![1, process];
    while let Some(parent) = parent_of(&Path::new("/proc").join(process.to_string()))
        && parent > 1
    {
        found.push(parent);
        process = parent;
    }
    found
}

/// Returns the folders in /proc of the processes that the process `parent` has jailed.
pub fn jailed(parent: i32) -> Vec<PathBuf> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| jailed_by(folder) == Some(parent))
        .collect()
}

/// Whether any user runs a program of this name.
pub fn is_running(name: &str) -> bool {
    let mut entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.any(|entry| {
        fs::read_to_string(entry.path().join("comm")).is_ok_and(|comm| comm.trim_end() == name)
    })
}

/// Returns the lines of tables of the kernel that name `text`: mounts of this mount namespace, and
/// Unix sockets.
pub fn kernel_objects(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for table in ["/proc/self/mountinfo", "/proc/net/unix"] {
        let lines = fs::read(table).unwrap_or_default();
        let lines = String::from_utf8_lossy(&lines);
        found.extend(
            lines
                .lines()
                .filter(|line| line.contains(text))
                .map(|line| format!("{table}: {line}")),
        );
    }
    found
}

/// Returns the loop devices whose backing file's path contains `text`.
pub fn loop_devices(text: &str) -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
            let device = entry.file_name().to_string_lossy().into_owned();
            file.contains(text)
                .then(|| format!("{device}: {}", file.trim_end()))
        })
        .collect()
}

/// Returns the folders of boxbuild in `folder` that belong to this user, sorted.
pub fn work_folders(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let own = nix::unistd::geteuid().as_raw();
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|entry| {
            entry
                .metadata()
                .is_ok_and(|metadata| metadata.is_dir() && metadata.uid() == own)
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("boxbuild-"))
        .collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use tempfile::TempDir;

    use super::*;
    use crate::Running;

    /// What one test leaves behind on purpose, the others would find.
    fn alone() -> MutexGuard<'static, ()> {
        static ALONE: Mutex<()> = Mutex::new(());
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn a_process_with_the_mark_is_found() {
        let _alone = alone();
        let mark = format!("leftovers-{}", std::process::id());
        let running = Running::start(Command::new("sleep").arg("1000").env(MARK, &mark));
        assert_eq!(processes(&mark), ["sleep"]);
        drop(running);
        assert_eq!(processes(&mark), [""; 0]);
    }

    /// Kills a process at its end, by its folder in /proc.
    struct Killed(Pid);

    impl Killed {
        fn new(folder: &Path) -> Killed {
            let pid = folder.file_name().unwrap().to_str().unwrap();
            Killed(Pid::from_raw(pid.parse().unwrap()))
        }
    }

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = kill(self.0, Signal::SIGKILL);
            // The next test would find it. What has ended and is not waited for has no command line.
            let folder = Path::new("/proc").join(self.0.to_string());
            assert_none(|| jailed_by(&folder).iter().map(i32::to_string).collect());
        }
    }

    /// Starts a shell with `script` in a folder with the program `sh jailed:test`, which has no
    /// environment.
    fn start(script: &str, mark: &str) -> (TempDir, Running) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("jailed:test"),
            "while :; do sleep 1; done",
        )
        .unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path());
        (folder, Running::start(command.env(MARK, mark)))
    }

    #[test]
    fn a_jailed_process_of_a_marked_one_is_found() {
        let _alone = alone();
        let mark = format!("leftovers-jailed-{}", std::process::id());
        let (_folder, mut running) = start("env -i sh jailed:test & wait", &mark);
        let parent = running.pid().as_raw();
        running.wait_until("the jailed process", |_| !jailed(parent).is_empty());
        let _end = Killed::new(&jailed(parent)[0]);
        assert_eq!(processes(&mark), ["sh", "sh"]);
        assert_eq!(processes("another mark"), [""; 0]);
    }

    #[test]
    fn a_jailed_process_without_its_parent_is_found() {
        let _alone = alone();
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let (folder, running) = start("env -i sh jailed:test >/dev/null 2>&1 & echo $! >pid", "");
        running.finish().expect(0, &[]);
        let pid = fs::read_to_string(folder.path().join("pid")).unwrap();
        let orphan = Path::new("/proc").join(pid.trim());
        let deadline = Instant::now() + scaled_timeout(20);
        while jailed_by(&orphan).is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _end = Killed::new(&orphan);
        assert_eq!(processes("any mark"), ["sh"]);
    }

    #[test]
    fn a_socket_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let text = folder.path().to_str().unwrap();
        assert_eq!(kernel_objects(text).len(), 1);
        drop(socket);
        // A process that another test has just forked has it until it is another program.
        assert_none(|| kernel_objects(text));
    }
}
