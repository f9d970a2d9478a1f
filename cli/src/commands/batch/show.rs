//! What the user sees of a batch: a live line for each build on a terminal, plain lines
//! elsewhere, JSON where that is asked for; and the summary.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;
use serde_json::{Value, json};

use super::check::Ready;
use super::child::{Step, Stream, Verdict};
use super::schedule::Outcome;
use crate::exit_code::ExitCode;
use boxbuild_host::units::seconds;

/// What is shown while the builds run.
#[derive(Debug)]
enum Style {
    /// One line for each running build, and one for all.
    Live(MultiProgress, ProgressBar),
    /// Lines with the build's name in front; all of them with `--verbose`.
    Plain { verbose: bool },
    /// Events, one JSON object a line, on standard output.
    Json,
}

/// Shows a batch.
#[derive(Debug)]
pub(super) struct Show {
    style: Style,
    names: Vec<String>,
    width: usize,
    /// Lines of running builds, by their numbers.
    bars: Vec<Option<ProgressBar>>,
    ended: u64,
}

impl Show {
    pub(super) fn new(builds: &[Ready], verbose: bool, json: bool) -> Show {
        let names: Vec<String> = builds.iter().map(|build| build.name.clone()).collect();
        let width = names.iter().map(|name| name.chars().count()).max();
        let width = width.unwrap_or(0).clamp(5, 40);
        let style = if json {
            Style::Json
        } else if verbose || !std::io::stderr().is_terminal() {
            Style::Plain { verbose }
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
        Show {
            style,
            bars: builds.iter().map(|_| None).collect(),
            names,
            width,
            ended: 0,
        }
    }

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
                bar.set_message("boot");
                bar.enable_steady_tick(Duration::from_millis(120));
                self.bars[number] = Some(bar);
            }
            Style::Plain { .. } => self.say(number, "started"),
            Style::Json => event(&json!({"event": "started", "build": name})),
        }
    }

    /// A line of a build, and what it means.
    pub(super) fn line(&mut self, number: usize, stream: Stream, text: &str, step: Option<&Step>) {
        match &self.style {
            Style::Live(..) => {
                if let (Some(bar), Some(step)) = (&self.bars[number], step) {
                    match step {
                        Step::Phase(phase) => bar.set_message(phase.name()),
                        Step::Detail(text) => bar.set_message(text.clone()),
                        Step::Done(_) => {}
                    }
                }
            }
            Style::Plain { verbose: true } => self.say(number, text),
            Style::Plain { verbose: false } => match step {
                Some(Step::Done(line)) => self.say(number, line),
                None if stream == Stream::Out => self.say(number, text),
                _ => {}
            },
            Style::Json => {
                if let Some(Step::Phase(phase)) = step {
                    let name = &self.names[number];
                    event(&json!({"event": "phase", "build": name, "phase": phase.name()}));
                }
            }
        }
    }

    pub(super) fn ended(&mut self, number: usize, outcome: &Outcome) {
        self.ended += 1;
        let good = outcome.verdict == Verdict::Built;
        let mark = if good {
            "✓".green().to_string()
        } else {
            "✗".red().to_string()
        };
        let line = format!(
            "{mark} {:<width$} {} in {}",
            self.names[number],
            outcome.verdict.words(),
            seconds(outcome.time),
            width = self.width
        );
        if let Some(bar) = self.bars[number].take() {
            bar.finish_and_clear();
        }
        match &self.style {
            Style::Live(bars, all) => {
                all.set_position(self.ended);
                bars.suspend(|| {
                    print(&line);
                    if !good {
                        for words in &outcome.story.last_words {
                            print(&format!("  {words}"));
                        }
                    }
                });
            }
            Style::Plain { verbose } => {
                if !good && !verbose {
                    for words in &outcome.story.last_words {
                        self.say(number, words);
                    }
                }
                print(&line);
            }
            Style::Json => {}
        }
        if matches!(self.style, Style::Json) {
            let mut value = described(&self.names[number], outcome);
            value["event"] = "ended".into();
            event(&value);
        }
    }

    /// The user has asked for an end.
    pub(super) fn stopping(&self, running: usize) {
        if let Style::Live(_, all) = &self.style {
            all.set_message(format!("stopping {running}"));
        }
    }

    /// Nothing moves any more.
    pub(super) fn finish(&self) {
        if let Style::Live(_, all) = &self.style {
            all.finish_and_clear();
        }
    }

    /// A line of a build on standard error, with its name in front.
    fn say(&self, number: usize, text: &str) {
        let name = format!("{:<width$} |", self.names[number], width = self.width);
        // Neighbours look different.
        let name = match number % 4 {
            0 => name.cyan().to_string(),
            1 => name.magenta().to_string(),
            2 => name.blue().to_string(),
            _ => name.yellow().to_string(),
        };
        print(&format!("{name} {text}"));
    }
}

impl Verdict {
    /// The exit code that stands for it.
    pub(super) fn code(self) -> Option<ExitCode> {
        match self {
            Verdict::Built => Some(ExitCode::SUCCESS),
            Verdict::Failed(code) => Some(code),
            Verdict::Killed(_) => Some(ExitCode::HOST),
            Verdict::Stopped => Some(ExitCode::INTERRUPTED),
            Verdict::NotStarted => None,
        }
    }

    /// For people.
    pub(super) fn words(self) -> String {
        match self {
            Verdict::Built => String::from("built"),
            Verdict::Failed(ExitCode::BUILD_FAILED) => String::from("failed"),
            Verdict::Failed(ExitCode::TIMEOUT) => String::from("timeout"),
            Verdict::Failed(ExitCode::USAGE | ExitCode::HOST) => String::from("could not run"),
            Verdict::Failed(code) => format!("failed ({})", code.number()),
            Verdict::Killed(signal) => format!("killed ({signal})"),
            Verdict::Stopped => String::from("stopped"),
            Verdict::NotStarted => String::from("not started"),
        }
    }

    /// For programs.
    fn word(self) -> &'static str {
        match self {
            Verdict::Built => "built",
            Verdict::Failed(_) | Verdict::Killed(_) => "failed",
            Verdict::Stopped => "stopped",
            Verdict::NotStarted => "not-started",
        }
    }
}

fn described(name: &str, outcome: &Outcome) -> Value {
    json!({
        "build": name,
        "result": outcome.verdict.word(),
        "exit_code": outcome.verdict.code().map(ExitCode::number),
        "seconds": outcome.time.as_secs_f64(),
        "log": outcome.log.as_ref().map(|path| path.display().to_string()),
        "reason": outcome.story.reason(),
    })
}

/// The table at the end, in the order of the batch file.
pub(super) fn summary(builds: &[Ready], outcomes: &[Outcome], total: Duration) -> String {
    let width = builds.iter().map(|build| build.name.chars().count()).max();
    let width = width.unwrap_or(0).max(5);
    let mut text = format!(
        "{:<width$}  {:<14} {:>4}  {:>12}  log\n",
        "build", "result", "exit", "time"
    );
    for (build, outcome) in builds.iter().zip(outcomes) {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| String::from("-"));
        let time = (outcome.verdict != Verdict::NotStarted).then(|| seconds(outcome.time));
        let log = outcome.log.as_ref().map(|path| path.display().to_string());
        text += &format!(
            "{:<width$}  {:<14} {:>4}  {:>12}  {}\n",
            build.name,
            outcome.verdict.words(),
            or_dash(outcome.verdict.code().map(|code| code.number().to_string())),
            or_dash(time),
            or_dash(log),
        );
        if outcome.story.log_lost {
            text += &format!(
                "{:<width$}  its log is not complete: the disk is full\n",
                ""
            );
        }
    }
    let count = |wanted: &[&str]| {
        outcomes
            .iter()
            .filter(|outcome| wanted.contains(&outcome.verdict.word()))
            .count()
    };
    text += &format!("{} built", count(&["built"]));
    for (word, number) in [
        ("failed", count(&["failed"])),
        ("stopped", count(&["stopped"])),
        ("not started", count(&["not-started"])),
    ] {
        if number > 0 {
            text += &format!(", {number} {word}");
        }
    }
    text + &format!(", in {}\n", seconds(total))
}

/// The last JSON event.
pub(super) fn summary_event(
    builds: &[Ready],
    outcomes: &[Outcome],
    total: Duration,
    exit_code: ExitCode,
) -> Value {
    let results: Vec<Value> = builds
        .iter()
        .zip(outcomes)
        .map(|(build, outcome)| {
            let mut value = described(&build.name, outcome);
            value["target_dir"] = build.target_dir.display().to_string().into();
            value
        })
        .collect();
    json!({
        "event": "summary",
        "exit_code": exit_code.number(),
        "seconds": total.as_secs_f64(),
        "builds": results,
    })
}

/// A JSON object on a line of standard output. A reader that has gone away ends nothing.
pub(super) fn event(value: &Value) {
    let _ = writeln!(std::io::stdout(), "{value}");
}

/// A line on standard error; a closed one is no reason to end a batch.
pub(super) fn print(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}
