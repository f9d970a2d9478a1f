//! Runs the builds: as many at once as there is room for, in their order, to an orderly end.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::admission::{Limits, needed};
use super::check::Ready;
use super::child::{Running, Said, Story, Verdict};
use super::show::Show;
use crate::exit_code::ExitCode;
use boxbuild_host::interrupt::Interrupt;

/// Lines that may wait to be shown; more, and the builds wait.
const LINES: usize = 256;

/// How often the builds are looked at when they say nothing.
const TICK: Duration = Duration::from_millis(100);

/// What became of a build.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) time: Duration,
    pub(super) story: Story,
    /// Everything that it said.
    pub(super) log: Option<PathBuf>,
}

/// How a batch is run.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) limits: Limits,
    /// The first failure ends everything.
    pub(super) fail_fast: bool,
    /// Where the logs go.
    pub(super) log_dir: PathBuf,
}

/// Runs all builds. The outcomes have the order of the builds.
pub(super) fn run(
    builds: &[Ready],
    rules: &Rules,
    interrupt: &Interrupt,
    show: &mut Show,
) -> Vec<Outcome> {
    let (sender, said) = mpsc::sync_channel(LINES);
    let mut outcomes: Vec<Option<Outcome>> = builds.iter().map(|_| None).collect();
    let mut running: Vec<Running> = Vec::new();
    let mut waiting: Vec<usize> = (0..builds.len()).collect();
    let mut interrupts = 0;
    let mut stopping = false;
    loop {
        // A machine that is too large for now must not keep a smaller one behind it waiting.
        let mut place = 0;
        while !stopping && place < waiting.len() {
            let number = waiting[place];
            let in_use = running
                .iter()
                .map(|running| needed(builds[running.number].memory))
                .sum();
            let build = &builds[number];
            let in_the_way = running
                .iter()
                .any(|running| build.excludes(&builds[running.number]));
            if in_the_way || !rules.limits.allow(running.len(), in_use, build.memory) {
                place += 1;
                continue;
            }
            waiting.remove(place);
            let log = rules.log_dir.join(format!("{}.log", build.name));
            match Running::start(number, build, &log, &sender) {
                Ok(started) => {
                    show.started(number);
                    running.push(started);
                }
                Err(error) => {
                    let mut story = Story::default();
                    story.last_words.push(format!(
                        "boxbuild: cannot start the build or write its log {}: {error}",
                        log.display()
                    ));
                    let outcome = Outcome {
                        verdict: Verdict::Failed(ExitCode::HOST),
                        time: Duration::ZERO,
                        story,
                        log: None,
                    };
                    show.ended(number, &outcome);
                    outcomes[number] = Some(outcome);
                    if rules.fail_fast {
                        stopping = true;
                        running.iter_mut().for_each(Running::stop);
                    }
                }
            }
        }
        if running.is_empty() {
            break;
        }
        take(&said, &mut running, show);

        let mut position = 0;
        while position < running.len() {
            let Some(verdict) = running[position].verdict() else {
                position += 1;
                continue;
            };
            let mut ended = running.remove(position);
            let number = ended.number;
            let outcome = Outcome {
                verdict,
                time: ended.started.elapsed(),
                story: std::mem::take(&mut ended.story),
                log: Some(rules.log_dir.join(format!("{}.log", builds[number].name))),
            };
            show.ended(number, &outcome);
            if rules.fail_fast && verdict != Verdict::Built && !stopping {
                stopping = true;
                running.iter_mut().for_each(Running::stop);
            }
            outcomes[number] = Some(outcome);
        }
        let asked = interrupt.count();
        if asked > interrupts {
            stopping = true;
            // The second Ctrl-C of a hasty user reaches each build as its second one.
            for _ in interrupts..asked.min(interrupts + 2) {
                running.iter_mut().for_each(Running::stop);
            }
            interrupts = asked;
            show.stopping(running.len());
        }
    }
    outcomes
        .into_iter()
        .map(|outcome| {
            outcome.unwrap_or_else(|| Outcome {
                verdict: Verdict::NotStarted,
                time: Duration::ZERO,
                story: Story::default(),
                log: None,
            })
        })
        .collect()
}

/// Takes what the builds say, for one tick at most.
fn take(said: &mpsc::Receiver<Said>, running: &mut [Running], show: &mut Show) {
    let deadline = Instant::now() + TICK;
    // Builds that say more than can be shown in time must not keep their ends from being seen.
    while let Some(patience) = deadline.checked_duration_since(Instant::now()) {
        let event = match said.recv_timeout(patience) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        };
        let (Said::Line(number, ..) | Said::Closed(number)) = event;
        // Late words of a build that was given up are nobody's.
        let Some(build) = running.iter_mut().find(|build| build.number == number) else {
            continue;
        };
        match event {
            Said::Line(_, stream, text) => {
                let step = build.line(stream, &text);
                show.line(number, stream, &text, step.as_ref());
            }
            Said::Closed(_) => {
                build.closed();
                return;
            }
        }
    }
}
