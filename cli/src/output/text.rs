//! Events as text for people: on the terminal, and in the log files of a batch.

use std::time::Duration;

use boxbuild_core::ssh;
use boxbuild_host::secret;
use boxbuild_host::text::shown;
use boxbuild_host::units::{seconds, size};
use owo_colors::OwoColorize;

use super::estimate::about;
use super::event::{BuildEvent, BuildOutcome, BuildResult, PhaseState, TestReport, TestStatus};
use super::heartbeat::Beat;

/// Returns the lines for an event. Events without text for people have none: the work of a phase
/// is shown while it lasts, and its log has the same words.
pub(crate) fn lines(event: &BuildEvent) -> Vec<String> {
    match event {
        BuildEvent::Phase {
            phase,
            state: state @ (PhaseState::Done | PhaseState::Failed),
            seconds,
            ..
        } => {
            let time = duration(seconds.unwrap_or_default());
            vec![phase_line(phase, *state == PhaseState::Done, time)]
        }
        // Every minute: what nothing else tells while it lasts.
        BuildEvent::Progress {
            phase,
            text,
            seconds: Some(seconds),
            left_seconds,
        } => vec![beat_line(&Beat {
            step: phase.clone(),
            time: duration(*seconds),
            left: left_seconds.map(duration),
            text: Some(text.clone()),
        })],
        BuildEvent::Note { text } => text.lines().map(str::to_owned).collect(),
        BuildEvent::Ssh { address, port } => vec![format!(
            "{address}:{port} leads to port {} of the box",
            ssh::SSHD
        )],
        BuildEvent::Line { text } => vec![text.clone()],
        BuildEvent::Result(result) => result_lines(result),
        BuildEvent::Test(report) => test_lines(report),
        BuildEvent::Error {
            message,
            causes,
            hint,
        } => {
            let mut lines = error_lines(message, causes);
            lines.extend(hint.iter().map(|hint| format!("  {hint}")));
            lines
        }
        BuildEvent::Phase { .. }
        | BuildEvent::Progress { .. }
        | BuildEvent::Exit { .. }
        | BuildEvent::Unknown => Vec::new(),
    }
}

/// Returns the line for a phase that has ended.
pub(crate) fn phase_line(phase: &str, good: bool, time: Duration) -> String {
    format!("{} {phase:<14} {}", mark(good), seconds(time))
}

/// Returns the line for a phase that goes on.
pub(crate) fn beat_line(beat: &Beat) -> String {
    let time = seconds(beat.time);
    let left = beat
        .left
        .map_or_else(String::new, |left| format!(", {}", about(left)));
    let text = beat.text.as_deref().filter(|text| !text.is_empty());
    // kiwi logs the addresses of its repositories.
    let text = text.map_or_else(String::new, |text| {
        format!("  {}", secret::redact(&shown(text)))
    });
    format!("  {:<14} {time}{left}{text}", beat.step)
}

/// Returns a tick or a cross. `anstream` drops the colours where they do not belong.
pub(crate) fn mark(good: bool) -> String {
    if good {
        "✓".green().to_string()
    } else {
        "✗".red().to_string()
    }
}

/// Returns the lines for an error and its causes.
pub(crate) fn error_lines(message: &str, causes: &[String]) -> Vec<String> {
    let causes = causes.iter().map(|cause| format!("  because: {cause}"));
    std::iter::once(format!("boxbuild: {message}"))
        .chain(causes)
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Returns the lines for a build that ran.
pub(crate) fn result_lines(result: &BuildResult) -> Vec<String> {
    match &result.outcome {
        BuildOutcome::Built { files } => {
            let mut lines = Vec::new();
            for file in files {
                lines.push(format!("{}  {}", shown(&file.path), size(file.bytes)));
                lines.extend(file.sha256.iter().map(|hash| format!("  sha256 {hash}")));
            }
            lines.push(times(result));
            lines
        }
        BuildOutcome::Failed {
            message,
            last_lines,
            log,
            kept,
            hint,
            ..
        } => {
            let mut lines: Vec<String> = last_lines
                .iter()
                .map(|line| format!("  | {line}"))
                .collect();
            lines.push(format!("boxbuild: {message}"));
            lines.extend(log.iter().map(|log| format!("  the log is {}", shown(log))));
            lines.extend(kept.iter().map(|kept| {
                let id = &kept.id;
                format!(
                    "  it is kept ({}): {}boxbuild shell {id}, boxbuild logs {id}, boxbuild prune {id}",
                    size(kept.bytes),
                    if kept.resumable {
                        format!("boxbuild resume {id}, ")
                    } else {
                        String::new()
                    }
                )
            }));
            lines.extend(hint.iter().map(|hint| format!("  hint: {hint}")));
            lines
        }
    }
}

/// Returns the lines for the test of an image that ran.
pub(crate) fn test_lines(report: &TestReport) -> Vec<String> {
    let time = seconds(duration(report.seconds));
    if report.status == TestStatus::Passed {
        return vec![format!(
            "{}  {} in {time}",
            shown(&report.image),
            report.message
        )];
    }
    let lines = report.last_lines.iter();
    let mut lines: Vec<String> = lines.map(|line| format!("  | {line}")).collect();
    lines.push(format!(
        "boxbuild: {}: {}",
        shown(&report.image),
        report.message
    ));
    lines.extend(
        report
            .log
            .iter()
            .map(|log| format!("  the console is in {}", shown(log))),
    );
    lines.extend(report.hint.iter().map(|hint| format!("  hint: {hint}")));
    lines
}

/// Returns how long a build took, and what of.
fn times(result: &BuildResult) -> String {
    let phases: Vec<String> = result
        .phases
        .iter()
        .map(|phase| format!("{} {}", phase.phase, seconds(duration(phase.seconds))))
        .collect();
    let memory = result.peak_memory_bytes;
    let packages = result
        .packages
        .filter(|packages| packages.from_cache_bytes > 0);
    format!(
        "built in {} ({}){}{}",
        seconds(duration(result.seconds)),
        phases.join(", "),
        memory.map_or_else(String::new, |memory| format!(
            ", peak memory {}",
            size(memory)
        )),
        packages.map_or_else(String::new, |packages| format!(
            ", packages: {} from the cache, {} fetched",
            size(packages.from_cache_bytes),
            size(packages.from_network_bytes)
        ))
    )
}

/// Returns a duration; one that a number cannot stand for is 0.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::event::{KeptBuild, Packages, PhaseTime, ResultFile};
    use super::*;

    fn plain(event: &BuildEvent) -> Vec<String> {
        let strip = |line: &String| anstream::adapter::strip_str(line).to_string();
        lines(event).iter().map(strip).collect()
    }

    #[test]
    fn a_build_is_told_in_words() {
        let result = |outcome| {
            BuildEvent::Result(BuildResult {
                outcome,
                seconds: 245.0,
                phases: vec![PhaseTime {
                    phase: String::from("boot"),
                    seconds: 7.1,
                }],
                peak_memory_bytes: Some(1 << 30),
                packages: Some(Packages {
                    from_cache_bytes: 3 << 20,
                    from_network_bytes: 1 << 20,
                }),
                not_in_cache: Vec::new(),
            })
        };
        let built = result(BuildOutcome::Built {
            files: vec![ResultFile {
                path: String::from("/out/image"),
                bytes: 6,
                sha256: Some(String::from("abc")),
            }],
        });
        assert_eq!(
            plain(&built),
            [
                "/out/image  6 B",
                "  sha256 abc",
                "built in 4 min 05 s (boot 7.1 s), peak memory 1.0 GiB, packages: 3.0 MiB from the cache, \
                 1.0 MiB fetched",
            ]
        );
        let failed = result(BuildOutcome::Failed {
            reason: String::from("kiwi"),
            phase: Some(String::from("prepare")),
            message: String::from("the build failed in the box (kiwi's exit code 7)"),
            last_lines: vec![String::from("KiwiError: no package foo")],
            log: Some(String::from("/out/result.log")),
            kept: Some(KeptBuild {
                id: String::from("debian-1"),
                bytes: 1 << 20,
                resumable: true,
            }),
            hint: Some(String::from("try again")),
        });
        assert_eq!(
            plain(&failed),
            [
                "  | KiwiError: no package foo",
                "boxbuild: the build failed in the box (kiwi's exit code 7)",
                "  the log is /out/result.log",
                "  it is kept (1.0 MiB): boxbuild resume debian-1, boxbuild shell debian-1, boxbuild \
                 logs debian-1, boxbuild prune debian-1",
                "  hint: try again",
            ]
        );
    }

    /// Fault 13: a name with the end of a line looked like a line of boxbuild's.
    #[test]
    fn names_of_results_stay_within_their_lines() {
        let result = BuildEvent::Result(BuildResult {
            outcome: BuildOutcome::Built {
                files: vec![ResultFile {
                    path: String::from("/out/a\n\x1b[2Jbuilt in 0 s\u{202e}"),
                    bytes: 6,
                    sha256: None,
                }],
            },
            seconds: 1.0,
            phases: Vec::new(),
            peak_memory_bytes: None,
            packages: None,
            not_in_cache: Vec::new(),
        });
        let lines = plain(&result);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(lines[0], "/out/a\\n\\u{1b}[2Jbuilt in 0 s\\u{202e}  6 B");
    }

    #[test]
    fn phases_and_errors_are_told_in_words() {
        let ended = BuildEvent::Phase {
            phase: String::from("boot"),
            state: PhaseState::Done,
            seconds: Some(7.1),
            expected_seconds: None,
        };
        assert_eq!(plain(&ended), ["✓ boot           7.1 s"]);
        let beat = |left_seconds| BuildEvent::Progress {
            phase: String::from("prepare"),
            text: String::from("Installing from https://me:s3cret@host/x"),
            seconds: Some(120.0),
            left_seconds,
        };
        assert_eq!(
            plain(&beat(Some(60.0))),
            ["  prepare        2 min 00 s, about 1 min left  Installing from https://***@host/x"]
        );
        assert_eq!(
            plain(&beat(None)),
            ["  prepare        2 min 00 s  Installing from https://***@host/x"]
        );
        let error = BuildEvent::Error {
            message: String::from("no\nway"),
            causes: vec![String::from("why")],
            hint: None,
        };
        assert_eq!(plain(&error), ["boxbuild: no", "way", "  because: why"]);
        let ssh = BuildEvent::Ssh {
            address: [127, 0, 0, 1].into(),
            port: 10022,
        };
        assert_eq!(plain(&ssh), ["127.0.0.1:10022 leads to port 22 of the box"]);
        // A number that no build sends ends nothing.
        let endless = BuildEvent::Phase {
            phase: String::from("boot"),
            state: PhaseState::Failed,
            seconds: Some(f64::INFINITY),
            expected_seconds: None,
        };
        assert_eq!(plain(&endless), ["✗ boot           0.0 s"]);
    }
}
