//! What happens while a box runs, and when.

use std::time::{Duration, Instant};

use boxbuild_host::startup::{self, Step};
use boxbuild_protocol::report::{BootStep, GuestPhase, Report};

use super::samples::Sample;
use super::samples::Samples;
use super::span::{Part, Span, Timeline};
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
    /// Of the set-up.
    steps: Vec<(Step, Instant)>,
    reached: Vec<(Milestone, Instant)>,
    /// What the guest says when it was, by its own clock, with the time of arrival.
    told: Vec<(Milestone, Duration, Instant)>,
    samples: Samples,
}

impl Recorder {
    /// A recorder of this process.
    pub fn of_this_process() -> Recorder {
        let steps = startup::reached();
        let exec = steps.first().map_or_else(Instant::now, |(_, exec)| *exec);
        Recorder {
            steps,
            ..Recorder::new(exec)
        }
    }

    /// A recorder of a process that began at `exec`.
    pub fn new(exec: Instant) -> Recorder {
        Recorder {
            exec,
            steps: vec![(Step::Exec, exec)],
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

    /// The machine runs: the steps that its process has told, and when its first instruction was run, if
    /// the engine knows.
    pub fn powered_on(&mut self, steps: &[(Step, Instant)], first_instruction: Option<Instant>) {
        let launched = startup::reached();
        for (step, at) in launched.iter().chain(steps) {
            if !self.steps.iter().any(|(known, _)| known == step) {
                self.steps.push((*step, *at));
            }
        }
        match first_instruction {
            None => self.reach(Milestone::PowerOn),
            Some(at) => {
                let known = self.steps.iter().filter(|(step, _)| *step < Step::Process);
                let at = known.map(|(_, at)| *at).fold(at, Instant::max);
                self.reached.push((Milestone::PowerOn, at));
            }
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
                parts: match milestone {
                    Milestone::Exec => parts(&self.steps, self.exec, end),
                    _ => Vec::new(),
                },
            }
        });
        Timeline {
            spans: spans.collect(),
            samples: self.samples.into_vec(),
        }
    }
}

/// What the time from `exec` to `end` consists of.
fn parts(steps: &[(Step, Instant)], exec: Instant, end: Instant) -> Vec<Part> {
    let mut steps: Vec<_> = steps
        .iter()
        .map(|(step, at)| (*step, (*at).max(exec).min(end)))
        .collect();
    steps.sort_by_key(|(_, at)| *at);
    if let Some((_, at)) = steps.first_mut() {
        *at = exec;
    }
    // Of one step nothing more is known than the whole.
    if steps.len() < 2 {
        return Vec::new();
    }
    let ends = steps.iter().skip(1).map(|(_, at)| *at).chain([end]);
    let parts = steps.iter().zip(ends).map(|((step, at), end)| Part {
        name: step.part(),
        len: end - *at,
    });
    parts.collect()
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

    /// Each microsecond from exec to the guest's first instruction is in one part.
    #[test]
    fn the_set_up_is_the_sum_of_its_parts() {
        let mut recorder = Recorder::new(ago(900));
        recorder.steps = vec![
            (Step::Exec, ago(900)),
            (Step::Main, ago(899)),
            (Step::Launch, ago(700)),
        ];
        let of_process = [(Step::Process, ago(500)), (Step::Machine, ago(400))];
        recorder.powered_on(&of_process, Some(ago(300)));
        recorder.reach(Milestone::PowerOn);
        let timeline = recorder.finish();
        let set_up = &timeline.spans[0];
        let names: Vec<_> = set_up.parts.iter().map(|part| part.name).collect();
        let expected = [
            "loader",
            "command line",
            "boot files, process",
            "confinement",
            "machine and kernel",
        ];
        assert_eq!(names, expected);
        let sum: Duration = set_up.parts.iter().map(|part| part.len).sum();
        assert_eq!(sum, set_up.len());
        assert!(timeline.spans[1..].iter().all(|span| span.parts.is_empty()));
    }

    /// A machine's process says when it reached what; it does not leave the time of its run.
    #[test]
    fn a_process_that_lies_stays_within_its_start() {
        let mut recorder = Recorder::new(ago(100));
        recorder.steps = vec![(Step::Exec, ago(100)), (Step::Launch, ago(50))];
        let early = ago(50_000);
        recorder.powered_on(
            &[(Step::Process, early), (Step::Machine, early)],
            Some(early),
        );
        let timeline = recorder.finish();
        let set_up = &timeline.spans[0];
        let sum: Duration = set_up.parts.iter().map(|part| part.len).sum();
        assert!(
            sum == set_up.len() && sum < Duration::from_secs(1),
            "{set_up:?}"
        );
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
