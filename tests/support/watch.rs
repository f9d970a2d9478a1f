//! What the processes of a program under test use and show while it runs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::unistd::Pid;

/// How often is looked.
const POLL: Duration = Duration::from_millis(20);

/// Beginnings of names of programs that engines run.
const FOREIGN: [&str; 7] = [
    "qemu", "podman", "conmon", "crun", "runc", "netavark", "exe",
];

/// A process that was seen.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Name of its program, at most 15 bytes.
    pub name: String,
    /// All of its command line, with spaces between the words.
    pub command_line: String,
    /// Highest resident memory in KiB.
    pub peak_kib: u64,
    /// Resident memory when it was last seen, in KiB.
    pub now_kib: u64,
    /// Most open descriptors that were seen. Where they cannot be counted (a jailed process, for a
    /// normal user), the size of the process's table of them: at least as many, a power of two.
    pub files: usize,
}

impl Process {
    /// Whether this is a program of others, such as the emulator, which the guest's memory belongs to.
    pub fn is_foreign(&self) -> bool {
        FOREIGN.iter().any(|name| self.name.starts_with(name))
    }
}

/// Watches a process and all that descend from it.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<BTreeMap<i32, Process>>>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches `process` and its descendants from now on.
    pub fn start(process: Pid) -> Watch {
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let end = Arc::new(AtomicBool::new(false));
        let (ours, until) = (Arc::clone(&seen), Arc::clone(&end));
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                for pid in descendants(process) {
                    look(pid, &mut ours.lock().unwrap());
                }
                std::thread::sleep(POLL);
            }
        });
        Watch {
            seen,
            end,
            thread: Some(thread),
        }
    }

    /// Returns all processes seen so far.
    pub fn processes(&self) -> Vec<Process> {
        self.seen.lock().unwrap().values().cloned().collect()
    }

    /// Returns the highest sum of the resident memory that each process but the engines' programs had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let processes = self.processes();
        let ours = processes.iter().filter(|process| !process.is_foreign());
        ours.map(|process| process.peak_kib).sum()
    }

    /// Returns the resident memory of all processes but the engines' programs as last seen, in KiB.
    pub fn now_kib(&self) -> u64 {
        let processes = self.processes();
        let ours = processes.iter().filter(|process| !process.is_foreign());
        ours.map(|process| process.now_kib).sum()
    }

    /// Returns the most descriptors that one process but the engines' programs had.
    pub fn files(&self) -> usize {
        let processes = self.processes();
        let ours = processes.iter().filter(|process| !process.is_foreign());
        ours.map(|process| process.files).max().unwrap_or(0)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn of(pid: Pid, name: &str) -> PathBuf {
    Path::new("/proc").join(pid.to_string()).join(name)
}

/// Returns a number of `/proc/PID/status`, which any user may read.
fn number(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim_start_matches(':')
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Returns `process` and the processes that descend from it.
pub fn descendants(process: Pid) -> Vec<Pid> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        let status = fs::read_to_string(of(Pid::from_raw(pid), "status")).unwrap_or_default();
        if let Some(parent) = number(&status, "PPid") {
            parents.push((pid, parent));
        }
    }
    let mut family = vec![process.as_raw()];
    let mut next = 0;
    while let Some(&parent) = family.get(next) {
        next += 1;
        let children = parents
            .iter()
            .filter(|(_, of)| i32::try_from(*of) == Ok(parent));
        family.extend(children.map(|(pid, _)| *pid));
    }
    family.into_iter().map(Pid::from_raw).collect()
}

fn look(pid: Pid, seen: &mut BTreeMap<i32, Process>) {
    let Ok(status) = fs::read_to_string(of(pid, "status")) else {
        return;
    };
    let process = seen.entry(pid.as_raw()).or_default();
    if let Some(name) = status.lines().next().and_then(|line| line.split_once('\t')) {
        name.1.clone_into(&mut process.name);
    }
    process.now_kib = number(&status, "VmRSS").unwrap_or(0);
    let peak = number(&status, "VmHWM").unwrap_or(0);
    process.peak_kib = process.peak_kib.max(peak);
    let table = number(&status, "FDSize").and_then(|size| usize::try_from(size).ok());
    let files = fs::read_dir(of(pid, "fd")).map_or(table.unwrap_or(0), Iterator::count);
    process.files = process.files.max(files);
    let words = fs::read(of(pid, "cmdline")).unwrap_or_default();
    if !words.is_empty() {
        let words: Vec<_> = words
            .split(|byte| *byte == 0)
            .map(String::from_utf8_lossy)
            .collect();
        process.command_line = words.join(" ");
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::Running;

    #[test]
    fn what_a_grandchild_uses_is_seen() {
        let script = "(exec 8</dev/null 9</dev/null; sleep 1000; :) & wait";
        let mut running = Running::start(Command::new("sh").args(["-c", script, "a secret"]));
        let watch = Watch::start(running.pid());
        running.wait_until("three processes", |_| watch.processes().len() >= 3);
        let all = watch.processes();
        let has = |text: &str| all.iter().any(|seen| seen.command_line.contains(text));
        assert!(has("a secret") && has("sleep 1000"), "{all:?}");
        assert!(watch.files() >= 5 && watch.peak_kib() > 100, "{all:?}");
        running.signal(nix::sys::signal::Signal::SIGKILL);
    }
}
