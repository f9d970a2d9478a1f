//! Memory and processor time of a process, from /proc.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

/// Resident memory in bytes and processor time of process `pid` ("self" is this one), each if
/// it is known.
pub(super) fn usage(pid: &str) -> (Option<u64>, Option<Duration>) {
    let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let memory = read("status").and_then(|status| kib(&status, "VmRSS:"));
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    let processor = read("stat").and_then(|stat| processor(&stat, ticks as u64));
    (memory, processor)
}

/// A line of /proc/PID/status such as `VmRSS:      1234 kB`, in bytes (proc_pid_status(5)).
pub(super) fn kib(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let number = line.split_ascii_whitespace().next()?;
    Some(number.parse::<u64>().ok()? << 10)
}

/// User and system time of /proc/PID/stat (fields 14 and 15, proc_pid_stat(5)), which has
/// `ticks` in a second.
fn processor(stat: &str, ticks: u64) -> Option<Duration> {
    // The name in parentheses may have anything in it.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // The first behind the name is field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let time = field(14)? + field(15)?;
    Some(Duration::from_millis(time * 1000 / ticks.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_read() {
        let status = "Name:\tboxbuild\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n";
        assert_eq!(kib(status, "VmRSS:"), Some(1 << 20));
        assert_eq!(kib("Name:\tboxbuild\n", "VmRSS:"), None);
        let stat = "1 (a) b) c) S 1 1 1 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(processor(stat, 100), Some(Duration::from_secs(3)));
        assert_eq!(processor("1 (a) S", 100), None);
    }

    #[test]
    fn this_process_uses_something() {
        let (memory, processor) = usage("self");
        assert!(memory.is_some_and(|bytes| bytes > 1 << 20), "{memory:?}");
        assert!(processor.is_some());
    }
}
