//! What GitHub shows of a batch beside its log.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use boxbuild_host::units::seconds;

use super::check::CheckedBuild;
use super::error::BatchError;
use super::outcome::{Outcome, Verdict};
use super::summary::counts;
use crate::output::github::{Annotation, Level, Row, annotate, summarise};

/// Annotations that are written at most: GitHub shows ten of a step.
const MOST: usize = 10;

/// The batch file, and the lines of its builds.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) file: &'a Path,
    pub(super) lines: BTreeMap<String, usize>,
}

/// Shows how a batch ended.
pub(super) fn show(
    places: &Places<'_>,
    builds: &[CheckedBuild],
    outcomes: &[Outcome],
    total: Duration,
) {
    let both = || builds.iter().zip(outcomes);
    let failed = both().filter(|(_, outcome)| outcome.verdict.word() == "failed");
    for (build, outcome) in failed.take(MOST) {
        let result = outcome.verdict.describe();
        let reason = outcome.progress.reason.as_deref().unwrap_or(&result);
        annotate(&Annotation {
            level: Level::Error,
            file: Some(places.file),
            line: places.lines.get(&build.name).copied(),
            title: &build.name,
            text: reason,
        });
    }
    let rows: Vec<Row<'_>> = both()
        .map(|(build, outcome)| Row {
            name: &build.name,
            good: outcome.verdict == Verdict::Built,
            result: outcome.verdict.describe(),
            time: seconds(outcome.time),
            reason: outcome.progress.reason.as_deref(),
            last_words: &outcome.progress.last_words,
        })
        .collect();
    let name = places.file.to_string_lossy();
    let last = format!("{}, in {}", counts(outcomes), seconds(total));
    summarise(&name, &rows, &last);
}

/// Shows the mistakes of a batch that was refused, where they are.
pub(super) fn show_refusal(file: &Path, refused: &BatchError) {
    for mistake in refused.mistakes().iter().take(MOST) {
        annotate(&Annotation {
            level: Level::Error,
            file: Some(file),
            line: mistake.line,
            title: "batch file",
            text: &mistake.message,
        });
    }
}
