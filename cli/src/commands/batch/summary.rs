//! The summary at the end of a batch.

use std::time::Duration;

use boxbuild_host::text::shown;
use boxbuild_host::units::seconds;

use super::check::CheckedBuild;
use super::outcome::{Outcome, Verdict};
use crate::exit_code::ExitCode;
use crate::output::event::{BatchEvent, BuildInSummary};

/// Returns the table for people, in the order of the batch file.
pub(super) fn table(builds: &[CheckedBuild], outcomes: &[Outcome], total: Duration) -> String {
    let width = builds.iter().map(|build| build.name.chars().count()).max();
    let width = width.unwrap_or(0).max(5);
    // Where builds ran is told if any ran elsewhere.
    let hosts = outcomes.iter().filter_map(|outcome| outcome.host.as_ref());
    let hosts = hosts
        .map(|host| host.chars().count() + 2)
        .max()
        .unwrap_or(0)
        .max(7);
    let elsewhere = outcomes.iter().any(|outcome| !outcome.attempts.is_empty());
    let place = |text: &str| match elsewhere {
        true => format!("{text:<hosts$}"),
        false => String::new(),
    };
    let mut text = format!(
        "{:<width$}  {:<14} {:>4}  {:>12}  {}log\n",
        "build",
        "result",
        "exit",
        "time",
        place("where")
    );
    for (build, outcome) in builds.iter().zip(outcomes) {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| String::from("-"));
        let code = outcome.verdict.exit_code();
        let timed = outcome.verdict != Verdict::NotStarted && !outcome.before;
        let time = timed.then(|| seconds(outcome.time));
        let log = outcome.log.as_ref().map(|path| path.display().to_string());
        text += &format!(
            "{:<width$}  {:<14} {:>4}  {:>12}  {}{}\n",
            build.name,
            outcome.describe(),
            or_dash(code.map(|code| code.number().to_string())),
            or_dash(time),
            place(&shown(outcome.host.as_deref().unwrap_or("-"))),
            or_dash(log),
        );
        if outcome.progress.log_incomplete {
            text += &format!(
                "{:<width$}  its log is not complete: the disk is full, or it has 1 GiB\n",
                ""
            );
        }
    }
    text + &counts(outcomes) + &format!(", in {}\n", seconds(total))
}

/// Returns how many builds ended how.
pub(super) fn counts(outcomes: &[Outcome]) -> String {
    let count = |word: &str| {
        let same = |outcome: &&Outcome| outcome.verdict.word() == word;
        outcomes.iter().filter(same).count()
    };
    let mut text = format!("{} built", count("built"));
    for (word, name) in [
        ("failed", "failed"),
        ("stopped", "stopped"),
        ("not-started", "not started"),
    ] {
        let number = count(word);
        if number > 0 {
            text += &format!(", {number} {name}");
        }
    }
    text
}

/// Returns the last event, for programs.
pub(super) fn event<'a>(
    builds: &'a [CheckedBuild],
    outcomes: &'a [Outcome],
    total: Duration,
    exit_code: ExitCode,
) -> BatchEvent<'a> {
    let results = builds
        .iter()
        .zip(outcomes)
        .map(|(build, outcome)| BuildInSummary {
            summary: outcome.summary(&build.name),
            target_dir: build.target_dir.display().to_string(),
        });
    BatchEvent::Summary {
        exit_code: exit_code.number(),
        seconds: total.as_secs_f64(),
        builds: results.collect(),
    }
}
