//! What is shown of a batch while it runs: a live line for each build on a terminal, plain lines
//! elsewhere, events for programs.

use std::io::IsTerminal;
use std::time::Duration;

use boxbuild_core::kiwi_log::Phase;
use boxbuild_host::text::shown;
use boxbuild_host::units::seconds;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;

use super::check::CheckedBuild;
use super::outcome::{Outcome, Verdict};
use super::setback::Setback;
use crate::output::event::{BatchEvent, BuildEvent, BuildOutcome, PhaseState, TestStatus};
use crate::output::json::emit;
use crate::output::print::print_line;
use crate::output::text::mark;

/// How a batch is shown.
#[derive(Debug)]
enum Style {
    /// One live line for each running build, and one for all.
    Live(MultiProgress, ProgressBar),
    /// Lines with the build's name in front.
    Plain(Detail),
    /// Events, one JSON object a line, on standard output.
    Events,
}

/// Which lines of the builds are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// Phases, results and failures.
    Milestones,
    /// All of them (`--verbose`).
    Everything,
}

/// Shows a batch.
#[derive(Debug)]
pub(super) struct Display {
    style: Style,
    names: Vec<String>,
    /// Width of the column of names, in characters.
    width: usize,
    /// The live lines of running builds, by their numbers.
    bars: Vec<Option<ProgressBar>>,
    ended: u64,
}

impl Display {
    /// Events for programs.
    pub(super) fn events(builds: &[CheckedBuild]) -> Display {
        Display::new(builds, Style::Events)
    }

    /// Live lines on a terminal, else lines; `verbose` shows every line of the builds.
    pub(super) fn for_people(builds: &[CheckedBuild], verbose: bool) -> Display {
        let style = if verbose {
            Style::Plain(Detail::Everything)
        } else if !std::io::stderr().is_terminal() {
            Style::Plain(Detail::Milestones)
        } else {
            let bars = MultiProgress::new();
            let all = bars.add(ProgressBar::new(builds.len() as u64));
            if let Ok(style) =
                ProgressStyle::with_template("  {pos} of {len} done  {elapsed}  {msg}")
            {
                all.set_style(style);
            }
            all.enable_steady_tick(Duration::from_millis(500));
            Style::Live(bars, all)
        };
        Display::new(builds, style)
    }

    fn new(builds: &[CheckedBuild], style: Style) -> Display {
        let names: Vec<String> = builds.iter().map(|build| build.name.clone()).collect();
        let width = names.iter().map(|name| name.chars().count()).max();
        Display {
            style,
            bars: builds.iter().map(|_| None).collect(),
            names,
            width: width.unwrap_or(0).clamp(5, 40),
            ended: 0,
        }
    }

    /// Shows that a build was started.
    pub(super) fn started(&mut self, number: usize) {
        let name = &self.names[number];
        match &self.style {
            Style::Live(bars, all) => {
                let bar = bars.insert_before(all, ProgressBar::new_spinner());
                let template = format!(
                    "{{spinner}} {{prefix:<{}}} {{elapsed:>6}}  {{wide_msg:.dim}}",
                    self.width
                );
                if let Ok(style) = ProgressStyle::with_template(&template) {
                    bar.set_style(style);
                }
                bar.set_prefix(name.clone());
                bar.set_message(Phase::Boot.name());
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bars[number] = Some(bar);
            }
            Style::Plain(_) => self.print(number, "started"),
            Style::Events => emit(&BatchEvent::Started { build: name }),
        }
    }

    /// Shows the host of an attempt at a build.
    pub(super) fn placed(&self, number: usize, host: &str, attempt: usize) {
        match &self.style {
            Style::Live(..) => self.set_message(number, format!("on {}", shown(host))),
            Style::Plain(_) => self.print(number, &format!("on {}", shown(host))),
            Style::Events => emit(&BatchEvent::Placed {
                build: &self.names[number],
                host,
                attempt,
            }),
        }
    }

    /// Shows an attempt that came to nothing, and when there is another one.
    pub(super) fn set_back(
        &self,
        number: usize,
        host: Option<&str>,
        setback: &Setback,
        attempt: usize,
        again: Option<Duration>,
    ) {
        if let Style::Events = self.style {
            emit(&BatchEvent::Setback {
                build: &self.names[number],
                host,
                result: setback.kind.word(),
                reason: &setback.reason,
                attempt,
                again_seconds: again.map(|wait| wait.as_secs_f64()),
            });
            return;
        }
        let next = match again {
            None => String::new(),
            Some(Duration::ZERO) => String::from(" (it is begun again)"),
            Some(wait) => format!(" (it is begun again in {} s)", wait.as_secs()),
        };
        let line = format!(
            "{}: {}: {}{next}",
            shown(host.unwrap_or("the runner")),
            setback.kind.describe(),
            shown(&setback.reason)
        );
        self.set_message(number, String::from("waiting for another host"));
        match &self.style {
            Style::Live(bars, _) => {
                let name = &self.names[number];
                bars.suspend(|| print_line(&format!("  {name}: {line}")));
            }
            _ => self.print(number, &line),
        }
    }

    /// Shows something about the batch.
    pub(super) fn note(&self, text: &str) {
        match &self.style {
            Style::Live(bars, _) => bars.suspend(|| print_line(text)),
            Style::Plain(_) => print_line(text),
            Style::Events => emit(&BatchEvent::Note { build: None, text }),
        }
    }

    fn set_message(&self, number: usize, text: String) {
        if let Some(bar) = &self.bars[number] {
            bar.set_message(text);
        }
    }

    /// Shows an event of a build, with its lines for people.
    pub(super) fn event(&self, number: usize, event: &BuildEvent, lines: &[String]) {
        match &self.style {
            Style::Live(..) => {
                if let (Some(bar), Some(text)) = (&self.bars[number], current_work(event)) {
                    bar.set_message(text.to_owned());
                }
            }
            Style::Plain(detail) => {
                if *detail == Detail::Everything || is_milestone(event) {
                    for line in lines {
                        self.print(number, line);
                    }
                }
            }
            Style::Events => {
                if let Some(event) = for_programs(&self.names[number], event) {
                    emit(&event);
                }
            }
        }
    }

    /// Shows a line of a build that is not an event.
    pub(super) fn line(&self, number: usize, text: &str) {
        if matches!(self.style, Style::Plain(Detail::Everything)) {
            self.print(number, text);
        }
    }

    /// Shows how a build ended.
    pub(super) fn ended(&mut self, number: usize, outcome: &Outcome) {
        self.ended += 1;
        let good = outcome.verdict == Verdict::Built;
        let last_words: &[String] = if good {
            &[]
        } else {
            &outcome.progress.last_words
        };
        let mut line = format!(
            "{} {:<width$} {}",
            mark(good),
            self.names[number],
            outcome.describe(),
            width = self.width
        );
        if !outcome.before {
            line += &format!(" in {}", seconds(outcome.time));
        }
        if let Some(host) = &outcome.host {
            line += &format!(" on {}", shown(host));
        }
        if let Some(bar) = self.bars[number].take() {
            bar.finish_and_clear();
        }
        match &self.style {
            Style::Live(bars, all) => {
                all.set_position(self.ended);
                bars.suspend(|| {
                    print_line(&line);
                    for words in last_words {
                        print_line(&format!("  {words}"));
                    }
                });
            }
            Style::Plain(detail) => {
                if *detail == Detail::Milestones {
                    for words in last_words {
                        self.print(number, words);
                    }
                }
                print_line(&line);
            }
            Style::Events => {
                let summary = outcome.summary(&self.names[number]);
                emit(&BatchEvent::Ended(summary));
            }
        }
    }

    /// Shows that the user has asked for an end.
    pub(super) fn stopping(&self, running: usize) {
        if let Style::Live(_, all) = &self.style {
            all.set_message(format!("stopping {running}"));
        }
    }

    /// Removes the live lines.
    pub(super) fn finish(&self) {
        if let Style::Live(_, all) = &self.style {
            all.finish_and_clear();
        }
    }

    /// Prints a line of a build, with its name in front.
    fn print(&self, number: usize, text: &str) {
        let name = format!("{:<width$} |", self.names[number], width = self.width);
        // Neighbours have different colours.
        let name = match number % 4 {
            0 => name.cyan().to_string(),
            1 => name.magenta().to_string(),
            2 => name.blue().to_string(),
            _ => name.yellow().to_string(),
        };
        print_line(&format!("{name} {text}"));
    }
}

/// Returns the event of the batch for an event of the build `build`. Its lines are in its log, and its
/// result comes at its end.
fn for_programs<'a>(build: &'a str, event: &'a BuildEvent) -> Option<BatchEvent<'a>> {
    match event {
        BuildEvent::Phase {
            phase,
            state,
            seconds,
            ..
        } => Some(BatchEvent::Phase {
            build,
            phase,
            state: *state,
            seconds: *seconds,
        }),
        BuildEvent::Progress {
            phase,
            text,
            seconds,
            left_seconds,
        } => Some(BatchEvent::Progress {
            build,
            phase,
            text,
            seconds: *seconds,
            left_seconds: *left_seconds,
        }),
        BuildEvent::Note { text } => Some(BatchEvent::Note {
            build: Some(build),
            text,
        }),
        _ => None,
    }
}

/// Returns what a build works on, if the event tells.
fn current_work(event: &BuildEvent) -> Option<&str> {
    match event {
        BuildEvent::Phase {
            phase,
            state: PhaseState::Started,
            ..
        } => Some(phase),
        BuildEvent::Progress { text, .. } => Some(text.as_str()).filter(|text| !text.is_empty()),
        _ => None,
    }
}

/// Returns whether the event is shown without `--verbose`. A failure is shown at the end.
fn is_milestone(event: &BuildEvent) -> bool {
    match event {
        BuildEvent::Phase { .. } => true,
        // Every minute.
        BuildEvent::Progress { seconds, .. } => seconds.is_some(),
        BuildEvent::Result(result) => matches!(result.outcome, BuildOutcome::Built { .. }),
        BuildEvent::Test(report) => report.status == TestStatus::Passed,
        _ => false,
    }
}
