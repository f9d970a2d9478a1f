//! What a guest's kernel says of itself when it goes wrong, on the console.

use std::time::{Duration, Instant};

/// How the first line of an oops begins: of x86 (arch/x86/mm/fault.c, kernel/traps.c), of arm64
/// (arch/arm64/mm/fault.c, kernel/traps.c), and everywhere (lib/bug.c).
const OOPS: [&str; 13] = [
    "BUG: unable to handle ",
    "BUG: kernel NULL pointer dereference",
    "kernel BUG at ",
    "Oops: ",
    "Oops - ",
    "general protection fault",
    "invalid opcode: ",
    "divide error: ",
    "stack segment: ",
    "double fault: ",
    "int3: ",
    "Unable to handle kernel ",
    "Internal error: ",
];

/// Lines of an oops that are kept: they tell what, where and in which program.
const OOPS_LINES: usize = 10;

/// How the kernel's watchdog reports a CPU on which nothing else runs (kernel/watchdog.c).
const SOFT_LOCKUP: &str = "BUG: soft lockup - CPU#";

/// A second report of the same CPU counts from this time after the first, by the host's clock: a host
/// that slept can cause one report, but not two.
const APART: Duration = Duration::from_secs(10);

/// What the kernel of a guest has said of its troubles.
#[derive(Debug, Default)]
pub(super) struct KernelTrouble {
    oops: Vec<String>,
    stuck: Option<Stuck>,
    lockup: Option<String>,
}

/// A report of the watchdog.
#[derive(Debug)]
struct Stuck {
    cpu: u32,
    seconds: u64,
    at: Instant,
}

impl KernelTrouble {
    /// Takes a line that arrived `now`.
    pub(super) fn line(&mut self, line: &str, now: Instant) {
        let text = message(line);
        let first = self.oops.is_empty() && OOPS.iter().any(|start| text.starts_with(start));
        if first || (1..OOPS_LINES).contains(&self.oops.len()) {
            self.oops.push(line.to_owned());
        }
        if let Some((cpu, seconds)) = soft_lockup(text) {
            let grows = self.stuck.as_ref().is_some_and(|stuck| {
                stuck.cpu == cpu
                    && seconds > stuck.seconds
                    && now.saturating_duration_since(stuck.at) >= APART
            });
            if grows {
                self.lockup.get_or_insert_with(|| text.to_owned());
            } else {
                self.stuck = Some(Stuck {
                    cpu,
                    seconds,
                    at: now,
                });
            }
        }
    }

    /// The first lines of the first oops.
    pub(super) fn oops(&self) -> &[String] {
        &self.oops
    }

    /// What a kernel that panicked with `panic` really died of.
    pub(super) fn cause(&self, panic: &str) -> String {
        match self.oops.first() {
            // All that is left to say after an oops (kernel/exit.c, arch/x86/kernel/dumpstack.c).
            Some(line) if panic.starts_with("Fatal exception") => {
                format!("{} ({panic})", message(line))
            }
            _ => panic.to_owned(),
        }
    }

    /// What the watchdog says of a CPU that stays where it is.
    pub(super) fn lockup(&self) -> Option<String> {
        self.lockup.clone()
    }
}

/// A line of the kernel without its prefixes: `[    1.234567][   T12] text`.
fn message(line: &str) -> &str {
    let mut text = line.trim_start();
    while let Some((_, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        text = rest.trim_start();
    }
    text.strip_prefix("watchdog: ").unwrap_or(text)
}

/// CPU and seconds in `BUG: soft lockup - CPU#1 stuck for 52s! [insmod:77]`.
fn soft_lockup(text: &str) -> Option<(u32, u64)> {
    let rest = text.strip_prefix(SOFT_LOCKUP)?;
    let (cpu, rest) = rest.split_once(" stuck for ")?;
    let (seconds, _) = rest.split_once("s!")?;
    Some((cpu.parse().ok()?, seconds.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest of Debian 13, shortened.
    const OOPS: &str = "\
[   12.700001] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   12.700002] #PF: supervisor read access in kernel mode
[   12.700003] #PF: error_code(0x0000) - not-present page
[   12.700004] PGD 0 P4D 0
[   12.700005] Oops: Oops: 0000 [#1] SMP NOPTI
[   12.700006] CPU: 0 UID: 0 PID: 331 Comm: mkfs.xfs Not tainted 6.12.48+deb13-cloud-amd64
[   12.700007] RIP: 0010:xfs_broken+0x1d/0x40
";

    fn trouble(text: &str) -> KernelTrouble {
        let mut trouble = KernelTrouble::default();
        let now = Instant::now();
        text.lines().for_each(|line| trouble.line(line, now));
        trouble
    }

    #[test]
    fn an_oops_is_the_cause_of_a_panic() {
        let mut text = String::from("[   12.600000] XFS (loop0): Mounting V5 Filesystem\n");
        text += OOPS;
        text += &"[   12.800000] R10: 0000 R11: 0000\n".repeat(40);
        let trouble = trouble(&text);
        assert_eq!(
            trouble.cause("Fatal exception"),
            "BUG: kernel NULL pointer dereference, address: 0000000000000010 (Fatal exception)"
        );
        assert_eq!(
            trouble.cause("VFS: Unable to mount root fs"),
            "VFS: Unable to mount root fs"
        );
        let lines = trouble.oops();
        assert_eq!(lines.len(), OOPS_LINES);
        assert!(lines.iter().any(|line| line.contains("Comm: mkfs.xfs")));
    }

    #[test]
    fn each_architecture_has_its_words() {
        for line in [
            "[ 1.0][  T1] Unable to handle kernel paging request at virtual address dead0000",
            "general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP",
            "[ 1.0] kernel BUG at mm/slub.c:448!",
            "[ 1.0] Internal error: Oops - Undefined instruction: 0000000002000000 [#1] SMP",
        ] {
            assert_eq!(trouble(line).oops().len(), 1, "{line}");
        }
        for line in [
            "[ INFO ]: 12:00:00 | Oops: what a name",
            "echo 'kernel BUG at 3'",
        ] {
            assert!(trouble(line).oops().is_empty(), "{line}");
        }
    }

    #[test]
    fn a_cpu_that_stays_stuck_is_told_and_a_host_that_slept_is_not() {
        let report = |cpu, seconds| {
            format!("[  99.0] watchdog: BUG: soft lockup - CPU#{cpu} stuck for {seconds}s! [dd:77]")
        };
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut trouble = KernelTrouble::default();
        trouble.line(&report(1, 26), at(0));
        // Another CPU, one that got on in between, and a burst of old lines.
        trouble.line(&report(0, 28_800), at(60));
        trouble.line(&report(0, 30), at(120));
        trouble.line(&report(0, 60), at(121));
        assert_eq!(trouble.lockup(), None);
        trouble.line(&report(0, 90), at(151));
        let words = "BUG: soft lockup - CPU#0 stuck for 90s! [dd:77]";
        assert_eq!(trouble.lockup().as_deref(), Some(words));
    }
}
