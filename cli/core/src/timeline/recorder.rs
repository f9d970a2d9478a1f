//! What happens while a box runs, and when.

use std::time::{Duration, Instant};

use boxbuild_protocol::report::{BootStep, GuestPhase, Report};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use super::samples::Sample;
use super::samples::Samples;
use super::span::{Span, Timeline};
use boxbuild_engine::Usage;

/// A moment at which something begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Milestone {
    /// boxbuild was started.
    Exec,
    /// The engine's machine runs.
    PowerOn,
    /// The guest's kernel reads its clock for the first time.
    Kernel,
    /// boxbuild's init runs in the initial ramdisk.
    Init,
    /// The root disk is mounted.
    Root,
    /// Shares and network are there.
    Shares,
    /// kiwi is started.
    Kiwi,
    /// kiwi has written its first line.
    FirstLine,
    /// kiwi makes the image.
    Create,
    /// kiwi bundles the result.
    Bundle,
    /// The guest powers off.
    PowerOff,
    /// The machine is gone; results are checked and published.
    Ended,
}

impl Milestone {
    /// What happens from here to the next one.
    const fn span(self) -> &'static str {
        match self {
            Milestone::Exec => "host set-up",
            Milestone::PowerOn => "power-on",
            Milestone::Kernel => "kernel",
            Milestone::Init => "root mount",
            Milestone::Root => "shares and network",
            Milestone::Shares => "udev",
            Milestone::Kiwi => "kiwi import",
            Milestone::FirstLine => "prepare",
            Milestone::Create => "create",
            Milestone::Bundle => "bundle",
            Milestone::PowerOff => "power off",
            Milestone::Ended => "publish",
        }
    }
}

/// Collects the milestones and samples of a run.
#[derive(Debug, Clone)]
pub struct Recorder {
    exec: Instant,
    reached: Vec<(Milestone, Instant)>,
    /// What the guest says when it was, by its own clock, with the time of arrival.
    told: Vec<(Milestone, Duration, Instant)>,
    samples: Samples,
}

impl Recorder {
    /// A recorder of this process. Its start is known to 10 ms (proc_pid_stat(5), starttime).
    pub fn of_this_process() -> Recorder {
        let age = age().unwrap_or_default();
        let now = Instant::now();
        Recorder::new(now.checked_sub(age).unwrap_or(now))
    }

    /// A recorder of a process that began at `exec`.
    pub fn new(exec: Instant) -> Recorder {
        Recorder {
            exec,
            reached: vec![(Milestone::Exec, exec)],
            told: Vec::new(),
            samples: Samples::default(),
        }
    }

    /// Something begins now. Only the first time counts.
    pub fn reach(&mut self, milestone: Milestone) {
        if !self.reached.iter().any(|(known, _)| *known == milestone) {
            self.reached.push((milestone, Instant::now()));
        }
    }

    /// Takes a report of the guest: the phases, and the time since its kernel's start at which it
    /// reached a step (docs/guest-contract.md).
    pub fn report(&mut self, report: &Report) {
        let (step, since) = match report {
            // The shell scripts' only way to tell; marks are more exact and come first.
            Report::Phase(GuestPhase::Mount) => return self.reach(Milestone::Root),
            Report::Phase(GuestPhase::Build) => return self.reach(Milestone::Kiwi),
            Report::Mark(step, since) => (*step, *since),
            _ => return,
        };
        let milestone = match step {
            BootStep::Init => Milestone::Init,
            BootStep::Root => Milestone::Root,
            BootStep::Shares => Milestone::Shares,
            BootStep::Kiwi => Milestone::Kiwi,
        };
        if !self.told.iter().any(|(known, ..)| *known == milestone) {
            self.told.push((milestone, since, Instant::now()));
        }
    }

    /// Asks for what the machine uses, if it is time to.
    pub fn sample(&mut self, usage: impl FnOnce() -> Usage) {
        let now = self.exec.elapsed();
        if self.samples.is_due(now) {
            self.samples.push(Sample {
                at: now,
                usage: usage(),
            });
        }
    }

    /// The whole, which ends now.
    pub fn finish(self) -> Timeline {
        let end = Instant::now();
        let mut moments = self.reached;
        // Reports can be late, never early: the least late one tells when the guest's clock
        // began. A guest may say what it likes; it does not leave the time of its run.
        let power_on = moments
            .iter()
            .find_map(|(milestone, at)| (*milestone == Milestone::PowerOn).then_some(*at));
        let zero = self
            .told
            .iter()
            .filter_map(|(_, since, arrived)| arrived.checked_sub(*since))
            .min();
        if let (Some(power_on), Some(zero)) = (power_on, zero) {
            let zero = zero.max(power_on);
            moments.push((Milestone::Kernel, zero));
            for (milestone, since, arrived) in self.told {
                moments.retain(|(known, _)| *known != milestone);
                let at = zero.checked_add(since).unwrap_or(arrived);
                moments.push((milestone, at.min(arrived).max(zero)));
            }
        }
        moments.sort_by_key(|(milestone, _)| *milestone);
        // A later step never begins before an earlier one.
        let mut latest = self.exec;
        for (_, at) in &mut moments {
            latest = latest.max(*at).min(end);
            *at = latest;
        }
        let detailed = moments.iter().any(|(m, _)| *m == Milestone::Kernel);
        let ends = moments.iter().skip(1).map(|(_, at)| *at).chain([end]);
        let spans = moments.iter().zip(ends).map(|((milestone, start), end)| {
            let name = match milestone {
                // Nothing is known of what is in it.
                Milestone::PowerOn if !detailed => "boot",
                milestone => milestone.span(),
            };
            Span {
                name: String::from(name),
                start: *start - self.exec,
                end: end - self.exec,
                boot: *milestone < Milestone::FirstLine,
            }
        });
        Timeline {
            spans: spans.collect(),
            samples: self.samples.into_vec(),
        }
    }
}

/// How long this process has been running.
#[expect(clippy::disallowed_methods, reason = "of the kernel")]
fn age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    // Field 22; the first behind the name is field 3.
    let ticks: u64 = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
    let second = sysconf(SysconfVar::CLK_TCK).ok()??;
    let start = Duration::from_millis(ticks * 1000 / u64::try_from(second).ok()?.max(1));
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
    Duration::from(now).checked_sub(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(milliseconds: u64) -> Instant {
        Instant::now() - Duration::from_millis(milliseconds)
    }

    /// Names and lengths in milliseconds, rounded to tens.
    fn spans(recorder: Recorder) -> Vec<(String, u128)> {
        let timeline = recorder.finish();
        let mut last = Duration::ZERO;
        for span in &timeline.spans {
            assert_eq!(span.start, last, "{:?}", timeline.spans);
            last = span.end;
        }
        let rounded = |span: &Span| (span.name.clone(), (span.len().as_millis() + 5) / 10 * 10);
        timeline.spans.iter().map(rounded).collect()
    }

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
    }

    #[test]
    fn marks_of_the_guest_divide_the_boot() {
        let mut recorder = Recorder::new(ago(5000));
        recorder.reached.push((Milestone::PowerOn, ago(4900)));
        // The guest's clock began 4700 ms ago; the first report was 300 ms late.
        recorder.told = vec![
            (Milestone::Init, Duration::from_millis(1000), ago(3400)),
            (Milestone::Root, Duration::from_millis(1500), ago(3200)),
            (Milestone::Kiwi, Duration::from_millis(2700), ago(2000)),
        ];
        recorder.reached.push((Milestone::Kiwi, ago(1990)));
        recorder.reached.push((Milestone::FirstLine, ago(1000)));
        let expected = [
            ("host set-up", 100),
            ("power-on", 200),
            ("kernel", 1000),
            ("root mount", 500),
            ("shares and network", 1200),
            ("kiwi import", 1000),
            ("prepare", 1000),
        ];
        let expected = expected.map(|(name, time)| (String::from(name), time));
        assert_eq!(spans(recorder), expected);
    }

    #[test]
    fn without_marks_the_boot_is_one() {
        let mut recorder = Recorder::new(ago(5000));
        recorder.reached.push((Milestone::PowerOn, ago(4000)));
        recorder.reached.push((Milestone::Create, ago(2000)));
        let expected = [("host set-up", 1000), ("boot", 2000), ("create", 2000)];
        let expected = expected.map(|(name, time)| (String::from(name), time));
        assert_eq!(spans(recorder), expected);
    }

    #[test]
    fn a_guest_that_lies_stays_within_its_run() {
        let mut recorder = Recorder::new(ago(1000));
        recorder.reach(Milestone::PowerOn);
        for (step, milliseconds) in [
            (BootStep::Init, 99_999_999_999),
            (BootStep::Root, u64::MAX),
            (BootStep::Root, 1),
        ] {
            let since = Duration::from_millis(milliseconds);
            recorder.report(&Report::Mark(step, since));
        }
        recorder.reach(Milestone::FirstLine);
        recorder.reach(Milestone::FirstLine);
        let timeline = recorder.finish();
        assert!(timeline.total() < Duration::from_secs(60));
        assert!(timeline.first_line().is_some());
    }
}
