//! Events of builds and batches: one JSON object a line (docs/json.md, docs/batch.md).
//!
//! They are an interface for other programs, and `boxbuild batch` reads those of its own builds.
//! New variants and fields may be added; what is here keeps its meaning.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::mistake::Mistake;
use boxbuild_images::Facts;

/// What a build reports with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum BuildEvent {
    /// A phase began or ended.
    Phase {
        /// Its name, as [`boxbuild_core::kiwi_log::Phase::name`] has it.
        phase: String,
        /// What became of it.
        state: PhaseState,
        /// How long it took, if it has ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
        /// How long it took in the last build of the same, if that is known, when it begins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_seconds: Option<f64>,
    },
    /// What the current phase works on: when that changes, and every minute.
    Progress {
        /// Name of the phase.
        phase: String,
        /// A message of kiwi.
        text: String,
        /// Every minute: how long the phase has taken so far.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
        /// Every minute: how long the build takes from now on, by the last one of the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        left_seconds: Option<f64>,
    },
    /// A message that the user must see.
    Note {
        /// The message, possibly of several lines.
        text: String,
    },
    /// A port of this host leads to the sshd of the box.
    Ssh {
        /// Address on this host.
        address: IpAddr,
        /// TCP port on this host.
        port: u16,
    },
    /// A line of the log or the console, with `--verbose` only.
    Line {
        /// The line, without its end.
        text: String,
    },
    /// The build ran, and ended.
    Result(BuildResult),
    /// The test of an image ran, and ended.
    Test(TestReport),
    /// The build could not run.
    Error {
        /// What happened.
        message: String,
        /// Why, the root cause last.
        causes: Vec<String>,
        /// What may help, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
    /// The last event.
    Exit {
        /// The program's exit code.
        code: u8,
    },
    /// An event that this version does not know.
    #[serde(other, skip_serializing)]
    Unknown,
}

/// What became of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PhaseState {
    Started,
    Done,
    Failed,
}

/// How a build ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BuildResult {
    /// With or without results.
    #[serde(flatten)]
    pub(crate) outcome: BuildOutcome,
    /// From power-on to the end.
    pub(crate) seconds: f64,
    /// How long each phase took, in order.
    pub(crate) phases: Vec<PhaseTime>,
    /// Highest resident memory of the engine in bytes, if known.
    pub(crate) peak_memory_bytes: Option<u64>,
    /// Bytes of packages and lists, where there is a cache.
    #[serde(default)]
    pub(crate) packages: Option<Packages>,
    /// Addresses that were asked for and are not in the cache, of a build with --offline.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) not_in_cache: Vec<String>,
}

/// Where packages and lists came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Packages {
    /// Bytes from the cache.
    pub(crate) from_cache_bytes: u64,
    /// Bytes from their servers.
    pub(crate) from_network_bytes: u64,
}

/// The results of a build, or why there are none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum BuildOutcome {
    /// There are results.
    Built {
        /// The result files.
        files: Vec<ResultFile>,
    },
    /// There are none.
    Failed {
        /// A word for programs, as [`boxbuild_core::run::Reason::word`] has it.
        reason: String,
        /// The phase that failed, if one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        phase: Option<String>,
        /// What happened, for people.
        message: String,
        /// The last lines that matter, of the log or the console.
        last_lines: Vec<String>,
        /// Where the log was published.
        log: Option<String>,
        /// What is kept of the build.
        kept: Option<KeptBuild>,
        /// What may help, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    },
}

/// How the test of an image ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TestReport {
    /// Whether it did what was expected.
    pub(crate) status: TestStatus,
    /// The image; bytes that are not UTF-8 are replaced.
    pub(crate) image: String,
    /// From power-on to the end.
    pub(crate) seconds: f64,
    /// A word for programs, as [`boxbuild_images::Reason::word`] has it; `None` if it passed.
    pub(crate) reason: Option<String>,
    /// What happened, for people.
    pub(crate) message: String,
    /// The last lines of the console.
    pub(crate) last_lines: Vec<String>,
    /// Where the console is kept.
    pub(crate) log: Option<String>,
    /// What may help, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

/// Whether an image did what was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TestStatus {
    Passed,
    Failed,
}

/// What `boxbuild test --json` reports before it starts.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum ImageEvent<'a> {
    /// What the image is, and how it is started.
    Image(&'a Facts),
}

/// How long a phase took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseTime {
    /// Its name.
    pub(crate) phase: String,
    /// Its length.
    pub(crate) seconds: f64,
}

/// A result file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResultFile {
    /// Its absolute path; bytes that are not UTF-8 are replaced.
    pub(crate) path: String,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its checksum in hexadecimal digits; a folder or a link has none.
    pub(crate) sha256: Option<String>,
}

/// What is kept of a failed build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptBuild {
    /// Its name for `boxbuild shell`, `logs`, `resume` and `prune`.
    pub(crate) id: String,
    /// Its size on the disk.
    pub(crate) bytes: u64,
    /// `boxbuild resume` can go on with it.
    #[serde(default)]
    pub(crate) resumable: bool,
}

/// What a batch reports with `--json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum BatchEvent<'a> {
    /// A build began.
    Started {
        /// Its name.
        build: &'a str,
    },
    /// A phase of a build began or ended.
    Phase {
        /// Name of the build.
        build: &'a str,
        /// Name of the phase.
        phase: &'a str,
        /// What became of it.
        state: PhaseState,
        /// How long it took, if it has ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
    },
    /// What a build works on: when that changes, and every minute.
    Progress {
        /// Name of the build.
        build: &'a str,
        /// Name of the phase.
        phase: &'a str,
        /// A message of kiwi.
        text: &'a str,
        /// Every minute: how long the phase has taken so far.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<f64>,
        /// Every minute: how long the build takes from now on, by the last one of the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        left_seconds: Option<f64>,
    },
    /// A message that the user must see.
    Note {
        /// Name of the build; `None` for all of them.
        build: Option<&'a str>,
        /// The message, possibly of several lines.
        text: &'a str,
    },
    /// A runner has given a build to a host.
    Placed {
        /// Name of the build.
        build: &'a str,
        /// The host.
        host: &'a str,
        /// Number of the attempt, from 1.
        attempt: usize,
    },
    /// An attempt at a build through a runner came to nothing. If it is not begun again, `ended` follows.
    Setback {
        /// Name of the build.
        build: &'a str,
        /// The host, where it is known.
        host: Option<&'a str>,
        /// `lost`, `cancelled`, `unreachable`, `unfit` or `host-problem`.
        result: &'a str,
        /// Why, for people.
        reason: &'a str,
        /// Number of the attempt, from 1.
        attempt: usize,
        /// It is begun again after so long; null: it is not.
        again_seconds: Option<f64>,
    },
    /// Nothing was started.
    Error {
        /// What happened.
        message: String,
        /// Why, the root cause last.
        causes: Vec<String>,
        /// What is wrong in the batch file.
        mistakes: &'a [Mistake],
    },
    /// A build ended.
    Ended(BuildSummary<'a>),
    /// The last event.
    Summary {
        /// The program's exit code.
        exit_code: u8,
        /// How long the batch took.
        seconds: f64,
        /// All builds, in the order of the batch file.
        builds: Vec<BuildInSummary<'a>>,
    },
}

/// How a build of a batch ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BuildSummary<'a> {
    /// Its name.
    pub(crate) build: &'a str,
    /// `built`, `failed`, `stopped` or `not-started`.
    pub(crate) result: &'static str,
    /// The exit code that stands for it, if it was started.
    pub(crate) exit_code: Option<u8>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// The file with everything that it reported.
    pub(crate) log: Option<String>,
    /// Why it failed.
    pub(crate) reason: Option<&'a str>,
    /// The host that it ran on through a runner.
    pub(crate) host: Option<&'a str>,
    /// How many attempts there were through a runner.
    pub(crate) attempts: usize,
}

/// A build in the summary of a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct BuildInSummary<'a> {
    /// How it ended.
    #[serde(flatten)]
    pub(crate) summary: BuildSummary<'a>,
    /// Its target folder.
    pub(crate) target_dir: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Events and their form in docs/json.md.
    fn cases() -> [(BuildEvent, Value); 12] {
        [
            (
                BuildEvent::Phase {
                    phase: String::from("power off"),
                    state: PhaseState::Started,
                    seconds: None,
                    expected_seconds: Some(3.0),
                },
                json!({"event": "phase", "phase": "power off", "state": "started",
                    "expected_seconds": 3.0}),
            ),
            (
                BuildEvent::Phase {
                    phase: String::from("boot"),
                    state: PhaseState::Failed,
                    seconds: Some(1.5),
                    expected_seconds: None,
                },
                json!({"event": "phase", "phase": "boot", "state": "failed", "seconds": 1.5}),
            ),
            (
                BuildEvent::Progress {
                    phase: String::from("prepare"),
                    text: String::from("Installing"),
                    seconds: None,
                    left_seconds: None,
                },
                json!({"event": "progress", "phase": "prepare", "text": "Installing"}),
            ),
            (
                BuildEvent::Progress {
                    phase: String::from("prepare"),
                    text: String::from("Installing"),
                    seconds: Some(60.0),
                    left_seconds: Some(90.0),
                },
                json!({"event": "progress", "phase": "prepare", "text": "Installing",
                    "seconds": 60.0, "left_seconds": 90.0}),
            ),
            (
                BuildEvent::Ssh {
                    address: IpAddr::from([127, 0, 0, 1]),
                    port: 10022,
                },
                json!({"event": "ssh", "address": "127.0.0.1", "port": 10022}),
            ),
            (
                BuildEvent::Result(BuildResult {
                    outcome: BuildOutcome::Built {
                        files: vec![ResultFile {
                            path: String::from("/out/image"),
                            bytes: 6,
                            sha256: None,
                        }],
                    },
                    seconds: 2.0,
                    phases: vec![PhaseTime {
                        phase: String::from("boot"),
                        seconds: 2.0,
                    }],
                    peak_memory_bytes: Some(7),
                    packages: Some(Packages {
                        from_cache_bytes: 8,
                        from_network_bytes: 9,
                    }),
                    not_in_cache: Vec::new(),
                }),
                json!({"event": "result", "status": "built", "seconds": 2.0,
                    "files": [{"path": "/out/image", "bytes": 6, "sha256": null}],
                    "phases": [{"phase": "boot", "seconds": 2.0}], "peak_memory_bytes": 7,
                    "packages": {"from_cache_bytes": 8, "from_network_bytes": 9}}),
            ),
            (
                BuildEvent::Result(BuildResult {
                    outcome: BuildOutcome::Failed {
                        reason: String::from("kiwi"),
                        phase: Some(String::from("prepare")),
                        message: String::from("it failed"),
                        last_lines: vec![String::from("last")],
                        log: None,
                        kept: Some(KeptBuild {
                            id: String::from("debian-1"),
                            bytes: 8,
                            resumable: false,
                        }),
                        hint: Some(String::from("help")),
                    },
                    seconds: 2.0,
                    phases: Vec::new(),
                    peak_memory_bytes: None,
                    packages: None,
                    not_in_cache: Vec::new(),
                }),
                json!({"event": "result", "status": "failed", "seconds": 2.0, "phases": [],
                    "peak_memory_bytes": null, "packages": null, "reason": "kiwi", "phase": "prepare", "message": "it failed",
                    "last_lines": ["last"], "log": null, "kept": {"id": "debian-1", "bytes": 8, "resumable": false}, "hint": "help"}),
            ),
            (
                BuildEvent::Error {
                    message: String::from("no"),
                    causes: vec![String::from("why")],
                    hint: Some(String::from("try")),
                },
                json!({"event": "error", "message": "no", "causes": ["why"], "hint": "try"}),
            ),
            (
                BuildEvent::Test(TestReport {
                    status: TestStatus::Failed,
                    image: String::from("/out/disk.raw"),
                    seconds: 2.0,
                    reason: Some(String::from("panic")),
                    message: String::from("it panicked"),
                    last_lines: vec![String::from("last")],
                    log: None,
                    hint: Some(String::from("help")),
                }),
                json!({"event": "test", "status": "failed", "image": "/out/disk.raw", "seconds": 2.0,
                    "reason": "panic", "message": "it panicked", "last_lines": ["last"], "log": null,
                    "hint": "help"}),
            ),
            (
                BuildEvent::Exit { code: 3 },
                json!({"event": "exit", "code": 3}),
            ),
            (
                BuildEvent::Note {
                    text: String::from("note"),
                },
                json!({"event": "note", "text": "note"}),
            ),
            (
                BuildEvent::Line {
                    text: String::from("line"),
                },
                json!({"event": "line", "text": "line"}),
            ),
        ]
    }

    #[test]
    fn events_keep_their_form() {
        for (event, wire) in cases() {
            assert_eq!(serde_json::to_value(&event).unwrap(), wire);
            assert_eq!(serde_json::from_value::<BuildEvent>(wire).unwrap(), event);
        }
    }

    /// Every event and key above is in docs/json.md.
    #[test]
    fn the_page_has_every_event_and_key() {
        let page = include_str!("../../../docs/json.md");
        let mut words: Vec<String> = Vec::new();
        for (_, wire) in cases() {
            let mut values = vec![wire];
            while let Some(value) = values.pop() {
                match value {
                    Value::Object(fields) => {
                        words.extend(fields.keys().cloned());
                        let event = fields.get("event").and_then(Value::as_str);
                        words.extend(event.map(str::to_owned));
                        values.extend(fields.into_iter().map(|(_, value)| value));
                    }
                    Value::Array(items) => values.extend(items),
                    _ => {}
                }
            }
        }
        assert!(words.len() > 20);
        for word in words {
            assert!(
                page.contains(&format!("`{word}`")),
                "{word} is not in docs/json.md"
            );
        }
    }

    #[test]
    fn what_a_newer_version_adds_is_ignored() {
        let newer = json!({"event": "weather", "sun": true});
        let event: BuildEvent = serde_json::from_value(newer).unwrap();
        assert_eq!(event, BuildEvent::Unknown);
        let newer = json!({"event": "exit", "code": 1, "mood": "bad"});
        let event: BuildEvent = serde_json::from_value(newer).unwrap();
        assert_eq!(event, BuildEvent::Exit { code: 1 });
    }

    #[test]
    fn a_batch_event_has_the_fields_of_its_build() {
        let summary = BuildSummary {
            build: "a",
            result: "built",
            exit_code: Some(0),
            seconds: 1.0,
            log: None,
            reason: None,
            host: Some("n1"),
            attempts: 2,
        };
        let ended = json!({"event": "ended", "build": "a", "result": "built", "exit_code": 0,
            "seconds": 1.0, "log": null, "reason": null, "host": "n1", "attempts": 2});
        let event = BatchEvent::Ended(summary.clone());
        assert_eq!(serde_json::to_value(&event).unwrap(), ended);
        let event = BatchEvent::Summary {
            exit_code: 0,
            seconds: 1.0,
            builds: vec![BuildInSummary {
                summary,
                target_dir: String::from("/out"),
            }],
        };
        let value = serde_json::to_value(&event).unwrap();
        assert_eq!(value["builds"][0]["build"], "a");
        assert_eq!(value["builds"][0]["target_dir"], "/out");
    }
}
