//! When this process reached the steps of its start, for `--timings`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// A step on the way to a running machine, which ends where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The kernel has started the program.
    Exec,
    /// `main` is called.
    Main,
    /// The command is known, and planned.
    Plan,
    /// An engine is chosen.
    Engine,
    /// The build is prepared.
    Prepare,
    /// The engine is told to start the machine.
    Launch,
    /// The machine's process runs.
    Process,
    /// It has no more rights than the machine needs.
    Machine,
}

impl Step {
    /// What happens from here to the next one.
    pub const fn part(self) -> &'static str {
        match self {
            Step::Exec => "loader",
            Step::Main => "command line",
            Step::Plan => "plan",
            Step::Engine => "engine",
            Step::Prepare => "folders",
            Step::Launch => "boot files, process",
            Step::Process => "confinement",
            Step::Machine => "machine and kernel",
        }
    }
}

/// The steps of this process, with the time when each was reached first.
static REACHED: Mutex<Vec<(Step, Instant)>> = Mutex::new(Vec::new());

/// A step begins now. Only the first time counts.
pub fn reach(step: Step) {
    let now = Instant::now();
    let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
    if reached.is_empty() {
        let exec = exec(now, step == Step::Main);
        reached.push((Step::Exec, exec));
    }
    if !reached.iter().any(|(known, _)| *known == step) {
        reached.push((step, now));
    }
}

/// Returns the steps so far, [`Step::Exec`] first.
pub fn reached() -> Vec<(Step, Instant)> {
    let reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
    if reached.is_empty() {
        let now = Instant::now();
        return vec![(Step::Exec, exec(now, false))];
    }
    reached.clone()
}

/// When the kernel started this process. It says so to 10 ms (proc_pid_stat(5), starttime); within
/// those, `main` was reached after the processor time that was used up to there.
fn exec(now: Instant, is_main: bool) -> Instant {
    let tick = tick().unwrap_or_default();
    let Some(earliest) = age().and_then(|age| now.checked_sub(age)) else {
        return now;
    };
    let used = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Into::into);
    match now.checked_sub(used).filter(|_| is_main) {
        Some(exec) => exec.max(earliest).min(earliest + tick).min(now),
        None => earliest,
    }
}

/// The unit of the kernel's account.
fn tick() -> Option<Duration> {
    let second = sysconf(SysconfVar::CLK_TCK).ok()??;
    Some(Duration::from_secs(1) / u32::try_from(second).ok()?.max(1))
}

/// How long this process has been running, at most.
fn age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    // Field 22; the first behind the name is field 3.
    let ticks: u32 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let start = tick()? * ticks;
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    Duration::from(now).checked_sub(start)
}

/// The time of an instant by the clock that all processes share (CLOCK_MONOTONIC, which is
/// [`Instant`]'s), in microseconds.
pub fn shared_clock(instant: Instant) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let since = now.saturating_sub(instant.elapsed());
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The instant of such a time, at most now: another process may say what it likes.
pub fn instant_of(microseconds: u64) -> Instant {
    let now = Instant::now();
    let clock = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    let ago = clock.saturating_sub(Duration::from_micros(microseconds));
    now.checked_sub(ago).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_older_than_the_test() {
        let start = Instant::now();
        std::thread::sleep(Duration::from_millis(30));
        let age = age().unwrap();
        assert!(
            age >= start.elapsed() - Duration::from_millis(20),
            "{age:?}"
        );
        assert!(age < Duration::from_secs(3600), "{age:?}");
        // No later than now, and no earlier than the kernel says.
        let now = Instant::now();
        for main in [false, true] {
            let exec = exec(now, main);
            assert!(exec <= now && now - exec <= age + Duration::from_secs(60));
        }
    }

    #[test]
    fn only_the_first_time_of_a_step_counts() {
        reach(Step::Plan);
        reach(Step::Plan);
        let reached = reached();
        assert_eq!(reached[0].0, Step::Exec);
        assert!(reached.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        let plans = reached.iter().filter(|(step, _)| *step == Step::Plan);
        assert_eq!(plans.count(), 1);
    }

    #[test]
    fn an_instant_survives_the_way_to_another_process() {
        let before = Instant::now() - Duration::from_millis(1234);
        let after = instant_of(shared_clock(before));
        let differ = after.max(before) - after.min(before);
        assert!(differ < Duration::from_millis(50), "{differ:?}");
        assert!(instant_of(u64::MAX) <= Instant::now());
        assert!(instant_of(0) <= Instant::now());
    }
}
