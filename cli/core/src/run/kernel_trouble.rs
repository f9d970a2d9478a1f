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

/// A later report of the same CPU counts from this time after the first, by the host's clock: a host
/// that slept can cause one report, but not two.
const APART: Duration = Duration::from_secs(10);

/// Processor time that each CPU of the machine must have had between the two, as far as it is known. It is
/// what the guest's watchdog waits for (twice `watchdog_thresh`, in boxbuild_firmware's command lines), but the
/// watchdog counts time in which a busy host ran something else.
const AT_WORK: Duration = Duration::from_secs(60);

/// What the host knows of the machine's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processors {
    /// How many the machine has.
    pub(super) number: u32,
    /// Processor time that the machine has used so far, if it is known.
    pub(super) used: Option<Duration>,
}

impl Default for Processors {
    fn default() -> Processors {
        Processors {
            number: 1,
            used: None,
        }
    }
}

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
    used: Option<Duration>,
}

impl Stuck {
    /// Whether a report of `seconds` that arrived `now` is of the same time: it has grown as time went by, and
    /// the guest's clock may be slower than the host's.
    fn goes_on(&self, seconds: u64, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at).as_secs();
        seconds
            .checked_sub(self.seconds)
            .is_some_and(|grown| grown >= since / 2)
    }

    /// Whether a CPU of which that is so ran meanwhile, and has had the time to get on.
    fn is_confirmed(&self, now: Instant, processors: Processors) -> bool {
        // Any of the others may have been busy all the time.
        let at_work = AT_WORK.saturating_mul(processors.number);
        let ran = match (self.used, processors.used) {
            (Some(then), Some(used)) => used.saturating_sub(then) >= at_work,
            _ => true,
        };
        now.saturating_duration_since(self.at) >= APART && ran
    }
}

impl KernelTrouble {
    /// Takes a line that arrived `now`.
    pub(super) fn line(&mut self, line: &str, now: Instant, processors: Processors) {
        let text = message(line);
        let first = self.oops.is_empty() && OOPS.iter().any(|start| text.starts_with(start));
        if first || (1..OOPS_LINES).contains(&self.oops.len()) {
            self.oops.push(line.to_owned());
        }
        if let Some((cpu, seconds)) = soft_lockup(text) {
            // The first report of a time is what all later ones are compared with.
            let same = |stuck: &&Stuck| stuck.cpu == cpu && stuck.goes_on(seconds, now);
            match self.stuck.as_ref().filter(same) {
                Some(stuck) => {
                    if stuck.is_confirmed(now, processors) {
                        self.lockup.get_or_insert_with(|| text.to_owned());
                    }
                }
                None => {
                    self.stuck = Some(Stuck {
                        cpu,
                        seconds,
                        at: now,
                        used: processors.used,
                    });
                }
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
        let processors = Processors::default();
        text.lines()
            .for_each(|line| trouble.line(line, now, processors));
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

    fn report(cpu: u32, seconds: u64) -> String {
        format!("[  99.0] watchdog: BUG: soft lockup - CPU#{cpu} stuck for {seconds}s! [dd:77]")
    }

    /// Reports of CPU 0: seconds after the first, what the watchdog says, processor time used so far.
    fn lockup_of(number: u32, reports: &[(u64, u64, Option<u64>)]) -> Option<String> {
        let (mut trouble, now) = (KernelTrouble::default(), Instant::now());
        for &(at, seconds, used) in reports {
            let used = used.map(Duration::from_secs);
            let at = now + Duration::from_secs(at);
            trouble.line(&report(0, seconds), at, Processors { number, used });
        }
        trouble.lockup()
    }

    #[test]
    fn a_cpu_that_stays_stuck_is_told_and_a_host_that_slept_is_not() {
        let now = Instant::now();
        let mut trouble = KernelTrouble::default();
        let mut take = |cpu, seconds, at| {
            let at = now + Duration::from_secs(at);
            trouble.line(&report(cpu, seconds), at, Processors::default());
            trouble.lockup()
        };
        assert_eq!(take(1, 26, 0), None);
        // Another CPU, one that got on in between, and a burst of old lines.
        assert_eq!(take(0, 28_800, 60), None);
        assert_eq!(take(0, 30, 120), None);
        assert_eq!(take(0, 60, 121), None);
        let words = "BUG: soft lockup - CPU#0 stuck for 90s! [dd:77]";
        assert_eq!(take(0, 90, 151).as_deref(), Some(words));
    }

    #[test]
    fn a_cpu_that_is_stuck_again_has_got_on() {
        assert_eq!(lockup_of(1, &[(0, 62, None), (3600, 70, None)]), None);
        let again = [(0, 62, None), (3600, 63, None), (3660, 123, None)];
        assert!(lockup_of(1, &again).is_some());
    }

    /// Emulated, two CPUs: at a load of 60 they get a thirtieth of the host's time.
    #[test]
    fn a_cpu_that_a_busy_host_does_not_run_is_not_stuck() {
        let starved = [(0, 62, Some(9)), (60, 122, Some(11)), (228, 290, Some(18))];
        assert_eq!(lockup_of(2, &starved), None);
        // One that is stuck on such a host is told later.
        let mut stuck = starved.to_vec();
        stuck.push((3600, 3662, Some(129)));
        let words = "BUG: soft lockup - CPU#0 stuck for 3662s! [dd:77]";
        assert_eq!(lockup_of(2, &stuck).as_deref(), Some(words));
        // On an idle one at the next report but one: the other CPU may have used all of the time.
        let idle = [
            (0, 62, Some(70)),
            (60, 122, Some(130)),
            (120, 182, Some(190)),
        ];
        assert_eq!(lockup_of(2, &idle[..2]), None);
        assert!(lockup_of(2, &idle).is_some());
        assert!(lockup_of(1, &idle[..2]).is_some());
    }
}
