//! What is known of a build of a batch from its events.

use crate::output::event::{BuildEvent, BuildOutcome, ResultFile, TestStatus};

/// Most lines about a failure that are kept.
const LAST_WORDS: usize = 40;

/// What is known of a build of a batch while it runs.
#[derive(Debug, Default)]
pub(super) struct BuildProgress {
    /// The report of its failure, for people.
    pub(super) last_words: Vec<String>,
    /// The reason of its failure, in one sentence.
    pub(super) reason: Option<String>,
    /// Its log could not be written to the end.
    pub(super) log_incomplete: bool,
    /// Its results, once it has built.
    pub(super) files: Vec<ResultFile>,
}

impl BuildProgress {
    /// A build that could not be started.
    pub(super) fn not_started(reason: String) -> BuildProgress {
        BuildProgress {
            last_words: vec![format!("boxbuild: {reason}")],
            reason: Some(reason),
            log_incomplete: false,
            files: Vec::new(),
        }
    }

    /// Takes an event of the build, with its lines for people.
    pub(super) fn take(&mut self, event: &BuildEvent, lines: &[String]) {
        let message = match event {
            BuildEvent::Result(result) => match &result.outcome {
                BuildOutcome::Failed { message, .. } => message,
                BuildOutcome::Built { files } => {
                    self.files.clone_from(files);
                    return;
                }
            },
            BuildEvent::Test(report) if report.status == TestStatus::Failed => &report.message,
            BuildEvent::Error { message, .. } => message,
            // A note after a failure explains it.
            BuildEvent::Note { .. } if self.reason.is_some() => {
                self.keep(lines);
                return;
            }
            _ => return,
        };
        self.reason = Some(message.clone());
        self.last_words.clear();
        self.keep(lines);
    }

    fn keep(&mut self, lines: &[String]) {
        let room = LAST_WORDS.saturating_sub(self.last_words.len());
        self.last_words.extend(lines.iter().take(room).cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::event::BuildResult;
    use crate::output::text;

    #[test]
    fn a_failure_is_kept_and_what_explains_it() {
        let mut progress = BuildProgress::default();
        let mut take = |event: &BuildEvent| progress.take(event, &text::lines(event));
        let note = |text: &str| BuildEvent::Note {
            text: text.to_owned(),
        };
        take(&note("before"));
        take(&BuildEvent::Line {
            text: String::from("boxbuild: something that looks like it"),
        });
        take(&BuildEvent::Result(BuildResult {
            outcome: BuildOutcome::Failed {
                reason: String::from("kiwi"),
                phase: Some(String::from("prepare")),
                message: String::from("the build failed"),
                last_lines: vec![String::from("KiwiError: no package foo")],
                log: None,
                kept: None,
                hint: None,
            },
            seconds: 1.0,
            phases: Vec::new(),
            peak_memory_bytes: None,
            packages: None,
            not_in_cache: Vec::new(),
        }));
        take(&note("after"));
        assert_eq!(progress.reason.as_deref(), Some("the build failed"));
        assert_eq!(
            progress.last_words,
            [
                "  | KiwiError: no package foo",
                "boxbuild: the build failed",
                "after"
            ]
        );
    }

    #[test]
    fn what_is_kept_of_a_failure_is_bounded() {
        let mut progress = BuildProgress::default();
        let event = BuildEvent::Error {
            message: "line\n".repeat(1000),
            causes: Vec::new(),
            hint: None,
        };
        progress.take(&event, &text::lines(&event));
        assert_eq!(progress.last_words.len(), LAST_WORDS);
    }
}
