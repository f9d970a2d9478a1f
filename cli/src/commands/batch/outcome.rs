//! How a build of a batch ended.

use std::path::PathBuf;
use std::time::Duration;

use super::attempt::Attempt;
use super::build_progress::BuildProgress;
use crate::exit_code::ExitCode;
use crate::output::event::BuildSummary;

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Built,
    /// It ended with this exit code of boxbuild.
    Failed(ExitCode),
    /// This signal killed the process.
    Killed(i32),
    /// The user stopped it, or the failure of another one did (`--fail-fast`).
    Stopped,
    NotStarted,
}

/// What became of a build.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) time: Duration,
    pub(super) progress: BuildProgress,
    /// The file with everything that it reported, if there is one.
    pub(super) log: Option<PathBuf>,
    /// Where it ran last, if not on this host.
    pub(super) host: Option<String>,
    /// All attempts at it through a runner.
    pub(super) attempts: Vec<Attempt>,
    /// An earlier batch has built it (`--resume`).
    pub(super) before: bool,
}

impl Outcome {
    /// The outcome of a build that was never started.
    pub(super) fn not_started() -> Outcome {
        Outcome {
            verdict: Verdict::NotStarted,
            time: Duration::ZERO,
            progress: BuildProgress::default(),
            log: None,
            host: None,
            attempts: Vec::new(),
            before: false,
        }
    }

    /// Returns it for people.
    pub(super) fn describe(&self) -> String {
        if self.before {
            return String::from("built before");
        }
        self.verdict.describe()
    }

    /// Returns the outcome for programs.
    pub(super) fn summary<'a>(&'a self, build: &'a str) -> BuildSummary<'a> {
        BuildSummary {
            build,
            result: self.verdict.word(),
            exit_code: self.verdict.exit_code().map(ExitCode::number),
            seconds: self.time.as_secs_f64(),
            log: self.log.as_ref().map(|path| path.display().to_string()),
            reason: self.progress.reason.as_deref(),
            host: self.host.as_deref(),
            attempts: self.attempts.len(),
        }
    }
}

impl Verdict {
    /// Returns the exit code that stands for it, if the build was started.
    pub(super) fn exit_code(self) -> Option<ExitCode> {
        match self {
            Verdict::Built => Some(ExitCode::SUCCESS),
            Verdict::Failed(code) => Some(code),
            Verdict::Killed(_) => Some(ExitCode::HOST),
            Verdict::Stopped => Some(ExitCode::INTERRUPTED),
            Verdict::NotStarted => None,
        }
    }

    /// Returns it for people.
    pub(super) fn describe(self) -> String {
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

    /// Returns it for programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            Verdict::Built => "built",
            Verdict::Failed(_) | Verdict::Killed(_) => "failed",
            Verdict::Stopped => "stopped",
            Verdict::NotStarted => "not-started",
        }
    }
}

/// Returns one exit code for all builds: an interruption, then a problem of the host, a build that
/// was refused, one that took too long, one that failed.
pub(super) fn exit_code(outcomes: &[Outcome], interrupted: bool) -> ExitCode {
    if interrupted {
        return ExitCode::INTERRUPTED;
    }
    let codes: Vec<ExitCode> = outcomes
        .iter()
        // Another build's failure is why these were stopped.
        .filter(|outcome| outcome.verdict != Verdict::Stopped)
        .filter_map(|outcome| outcome.verdict.exit_code())
        .collect();
    let order = [
        ExitCode::HOST,
        ExitCode::USAGE,
        ExitCode::INTERRUPTED,
        ExitCode::TIMEOUT,
    ];
    order
        .into_iter()
        .find(|code| codes.contains(code))
        .or_else(|| codes.into_iter().max())
        .unwrap_or(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_that_of_the_worst_build() {
        let of = |verdicts: &[Verdict]| {
            let outcomes: Vec<Outcome> = verdicts
                .iter()
                .map(|verdict| Outcome {
                    verdict: *verdict,
                    ..Outcome::not_started()
                })
                .collect();
            exit_code(&outcomes, false)
        };
        let failed = Verdict::Failed(ExitCode::BUILD_FAILED);
        let refused = Verdict::Failed(ExitCode::USAGE);
        assert_eq!(of(&[Verdict::Built, Verdict::Built]), ExitCode::SUCCESS);
        assert_eq!(of(&[Verdict::Built, failed]), ExitCode::BUILD_FAILED);
        assert_eq!(of(&[failed, Verdict::Stopped]), ExitCode::BUILD_FAILED);
        let timeout = Verdict::Failed(ExitCode::TIMEOUT);
        assert_eq!(of(&[failed, timeout]), ExitCode::TIMEOUT);
        assert_eq!(of(&[timeout, refused]), ExitCode::USAGE);
        assert_eq!(of(&[refused, Verdict::Killed(9)]), ExitCode::HOST);
        assert_eq!(exit_code(&[], true), ExitCode::INTERRUPTED);
    }
}
