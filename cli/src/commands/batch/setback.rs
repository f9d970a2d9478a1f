//! What a worker has said, and what that means for its build.

use std::path::PathBuf;

use super::outcome::Verdict;
use crate::commands::worker::checks::other_version;
use crate::commands::worker::protocol::{VERSION, WorkerEvent};
use crate::exit_code::ExitCode;
use crate::output::event::{BuildEvent, BuildOutcome, ResultFile};

/// What was heard of a worker.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Its host, as the runner or the worker calls it.
    pub(super) host: Option<String>,
    /// The worker itself has spoken.
    pub(super) worker: bool,
    /// The build begins.
    pub(super) ready: bool,
    version: Option<String>,
    unfit: Option<String>,
    /// The last event of the build.
    pub(super) exit: Option<u8>,
    /// The results, if it has built, with their lengths where these are known.
    pub(super) files: Option<Vec<(PathBuf, Option<u64>)>>,
    /// Why the build failed, or could not run.
    failure: Option<String>,
    /// The last lines of the runner itself: the very last one often tells no more than its exit code.
    last_lines: Vec<String>,
}

/// Lines of a runner that are told.
const TOLD: usize = 3;

/// Most characters of each.
const LONGEST: usize = 300;

/// Most characters of a reason: each attempt has one, and they are all recorded.
const LONGEST_REASON: usize = 1000;

/// Most characters of the name of a host (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

/// How an attempt at a build ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The build has ended.
    Verdict(Verdict),
    /// It has not: something is wrong with the runner or the host.
    Setback(Setback),
}

/// Why there has to be another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setback {
    pub(super) kind: SetbackKind,
    /// In words.
    pub(super) reason: String,
}

/// What kind of setback it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetbackKind {
    /// The host lacks something that the batch expects.
    Unfit,
    /// Nothing was started.
    Unreachable,
    /// The build was under way. It may still be.
    Lost,
    /// The host or its runner ended the build.
    Ended,
    /// The build reports a problem of its host (exit code 3).
    Host,
}

impl Setback {
    /// The reason may be of the host's own words: it becomes one line that is not too long.
    pub(super) fn new(kind: SetbackKind, reason: &str) -> Setback {
        let words = reason.split(char::is_control);
        let line = words.collect::<Vec<_>>().join(" ");
        Setback {
            kind,
            reason: line.chars().take(LONGEST_REASON).collect(),
        }
    }
}

impl SetbackKind {
    /// Returns it for people.
    pub(super) fn describe(self) -> &'static str {
        match self {
            SetbackKind::Unfit => "cannot be used",
            SetbackKind::Unreachable => "nothing was started",
            SetbackKind::Lost => "the build is lost",
            SetbackKind::Ended => "the build was cancelled",
            SetbackKind::Host => "a problem of the host",
        }
    }

    /// Returns it for programs.
    pub(super) fn word(self) -> &'static str {
        match self {
            SetbackKind::Unfit => "unfit",
            SetbackKind::Unreachable => "unreachable",
            SetbackKind::Lost => "lost",
            SetbackKind::Ended => "cancelled",
            SetbackKind::Host => "host-problem",
        }
    }
}

/// How the command of a runner ended.
#[derive(Debug, Clone)]
pub(super) struct CommandEnd {
    /// In words.
    pub(super) how: String,
    /// The user, or the failure of another build, asked for it.
    pub(super) stopped: bool,
    /// It was ended after so many seconds without a sign of life.
    pub(super) silent: Option<u64>,
    /// The command is one that cannot have reached the host if it ends like this (ssh and 255).
    pub(super) never_reached: bool,
}

impl Heard {
    /// Nothing was heard yet. `host` is its host, where that is known before.
    pub(super) fn on(host: Option<String>) -> Heard {
        Heard {
            host,
            ..Heard::default()
        }
    }

    /// Takes an event of the worker.
    pub(super) fn take_worker(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::Place { host } => self.name_host(host),
            WorkerEvent::Worker { host, version } => {
                self.name_host(host);
                self.worker = true;
                self.version = Some(version);
            }
            WorkerEvent::Ready => self.ready = true,
            WorkerEvent::Unfit { reason } => self.unfit = Some(reason),
            WorkerEvent::Alive => {}
        }
    }

    /// The user's name for a host counts more than its own, and what is no name does not count: names
    /// are in command lines (`{avoid}`), where a list or a pattern would be of other hosts.
    fn name_host(&mut self, host: String) {
        if is_host_name(&host) {
            self.host.get_or_insert(host);
        }
    }

    /// Takes an event of the build.
    pub(super) fn take(&mut self, event: &BuildEvent) {
        match event {
            BuildEvent::Exit { code } => self.exit = Some(*code),
            BuildEvent::Error {
                message, causes, ..
            } => {
                let mut words = vec![message.clone()];
                words.extend(causes.iter().cloned());
                self.failure = Some(words.join(": "));
            }
            BuildEvent::Result(result) => match &result.outcome {
                BuildOutcome::Built { files } => {
                    // Not of every file is the true name known, nor of a folder a length
                    // (docs/json.md).
                    let known =
                        |file: &&ResultFile| !file.path.contains(char::REPLACEMENT_CHARACTER);
                    let files = files.iter().filter(known);
                    let file = |file: &ResultFile| {
                        let bytes = file.sha256.as_ref().map(|_| file.bytes);
                        (PathBuf::from(&file.path), bytes)
                    };
                    self.files = Some(files.map(file).collect());
                }
                BuildOutcome::Failed { message, .. } => self.failure = Some(message.clone()),
            },
            _ => {}
        }
    }

    /// Takes a line that is no event.
    pub(super) fn take_line(&mut self, line: &str) {
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        if self.last_lines.len() == TOLD {
            self.last_lines.remove(0);
        }
        self.last_lines.push(line.chars().take(LONGEST).collect());
    }

    /// Decides about an attempt whose command has ended.
    pub(super) fn decide(&self, end: &CommandEnd) -> Ended {
        if let Some(code) = self.exit {
            return self.decide_by(ExitCode::of_process(code), end);
        }
        if end.stopped {
            return Ended::Verdict(Verdict::Stopped);
        }
        let words = |beginning: &str| match self.last_lines.as_slice() {
            [] => format!("{beginning}{}", end.how),
            lines => format!("{beginning}{}", lines.join("; ")),
        };
        let (kind, reason) = if let Some(reason) = &self.unfit {
            (SetbackKind::Unfit, reason.clone())
        } else if let Some(version) = self.version.as_ref().filter(|it| *it != VERSION) {
            (SetbackKind::Unfit, other_version(VERSION, version))
        } else if let Some(seconds) = end.silent {
            let reason = format!("no sign of life for {seconds} s");
            (SetbackKind::Lost, reason)
        } else if self.worker {
            (SetbackKind::Lost, words(""))
        } else if self.host.is_some() && !end.never_reached {
            (
                SetbackKind::Unfit,
                words("boxbuild cannot be started there: "),
            )
        } else {
            (SetbackKind::Unreachable, words(""))
        };
        Ended::Setback(Setback::new(kind, &reason))
    }

    fn decide_by(&self, code: ExitCode, end: &CommandEnd) -> Ended {
        let failure = || self.failure.clone().unwrap_or_default();
        let (kind, reason) = match code {
            ExitCode::SUCCESS if self.files.is_some() => return Ended::Verdict(Verdict::Built),
            ExitCode::SUCCESS => (
                SetbackKind::Lost,
                String::from("it says that it has built, but not what"),
            ),
            ExitCode::INTERRUPTED if end.stopped => return Ended::Verdict(Verdict::Stopped),
            ExitCode::INTERRUPTED => (
                SetbackKind::Ended,
                String::from("ended by its host or its queue, not by the batch"),
            ),
            ExitCode::HOST if !end.stopped => (SetbackKind::Host, failure()),
            code => return Ended::Verdict(Verdict::Failed(code)),
        };
        Ended::Setback(Setback::new(kind, &reason))
    }
}

/// Whether it is one name, as hosts and nodes have them.
fn is_host_name(name: &str) -> bool {
    let fits = |char: char| char.is_ascii_alphanumeric() || "._-".contains(char);
    (1..=LONGEST_NAME).contains(&name.len()) && !name.starts_with('-') && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::event::BuildResult;

    fn end() -> CommandEnd {
        CommandEnd {
            how: String::from("exit code 0"),
            stopped: false,
            silent: None,
            never_reached: false,
        }
    }

    fn built() -> BuildEvent {
        BuildEvent::Result(BuildResult {
            outcome: BuildOutcome::Built { files: Vec::new() },
            seconds: 1.0,
            phases: Vec::new(),
            peak_memory_bytes: None,
            packages: None,
            not_in_cache: Vec::new(),
        })
    }

    fn heard(events: &[BuildEvent]) -> Heard {
        let mut heard = Heard::default();
        heard.take_worker(WorkerEvent::Worker {
            host: String::from("n1"),
            version: VERSION.to_owned(),
        });
        events.iter().for_each(|event| heard.take(event));
        heard
    }

    fn kind(ended: Ended) -> Option<SetbackKind> {
        match ended {
            Ended::Setback(setback) => Some(setback.kind),
            Ended::Verdict(_) => None,
        }
    }

    /// srun ends with 0 after a failed node.
    #[test]
    fn the_exit_code_of_the_runner_is_no_verdict() {
        assert_eq!(kind(heard(&[]).decide(&end())), Some(SetbackKind::Lost));
        assert_eq!(
            kind(heard(&[built()]).decide(&end())),
            Some(SetbackKind::Lost)
        );
        let without = heard(&[BuildEvent::Exit { code: 0 }]);
        assert_eq!(kind(without.decide(&end())), Some(SetbackKind::Lost));
        let whole = heard(&[built(), BuildEvent::Exit { code: 0 }]);
        let late = CommandEnd {
            how: String::from("exit code 255"),
            ..end()
        };
        assert_eq!(whole.decide(&late), Ended::Verdict(Verdict::Built));
    }

    #[test]
    fn a_failed_build_is_final_and_a_failed_host_is_not() {
        for code in [1, 2, 124] {
            let verdict = Verdict::Failed(ExitCode::of_process(code));
            let ended = heard(&[BuildEvent::Exit { code }]).decide(&end());
            assert_eq!(ended, Ended::Verdict(verdict));
        }
        let error = BuildEvent::Error {
            message: String::from("no room"),
            causes: vec![String::from("/x")],
            hint: None,
        };
        let ended = heard(&[error, BuildEvent::Exit { code: 3 }]).decide(&end());
        let Ended::Setback(setback) = ended else {
            panic!("{ended:?}")
        };
        assert_eq!(
            (setback.kind, setback.reason.as_str()),
            (SetbackKind::Host, "no room: /x")
        );
    }

    #[test]
    fn a_cancelled_job_is_told_from_one_that_the_user_stopped() {
        let interrupted = heard(&[BuildEvent::Exit { code: 130 }]);
        assert_eq!(kind(interrupted.decide(&end())), Some(SetbackKind::Ended));
        let stopped = CommandEnd {
            stopped: true,
            ..end()
        };
        assert_eq!(
            interrupted.decide(&stopped),
            Ended::Verdict(Verdict::Stopped)
        );
        assert_eq!(
            Heard::default().decide(&stopped),
            Ended::Verdict(Verdict::Stopped)
        );
    }

    /// Its name is an argument of the next srun, and its reason a line of a record.
    #[test]
    fn what_a_host_says_of_itself_is_one_name_and_one_line() {
        for name in ["", "n[1-9]", "n1,n2", "-n", "a b", "a\nb", &"x".repeat(300)] {
            let mut heard = Heard::default();
            heard.take_worker(WorkerEvent::Place {
                host: name.to_owned(),
            });
            assert_eq!(heard.host, None, "{name}");
            heard.take_worker(WorkerEvent::Worker {
                host: String::from("n_1.example"),
                version: VERSION.to_owned(),
            });
            assert_eq!(heard.host.as_deref(), Some("n_1.example"));
            heard.take_worker(WorkerEvent::Unfit {
                reason: format!("no box\nboxbuild: all is well {}", "x".repeat(1 << 20)),
            });
            let Ended::Setback(setback) = heard.decide(&end()) else {
                panic!()
            };
            assert!(setback.reason.starts_with("no box boxbuild: all"));
            assert_eq!(setback.reason.chars().count(), LONGEST_REASON);
        }
    }

    #[test]
    fn a_folder_of_results_is_looked_for_without_its_length() {
        let file = |sha256: Option<&str>| ResultFile {
            path: String::from("/out/x"),
            bytes: 5,
            sha256: sha256.map(str::to_owned),
        };
        let mut built = built();
        if let BuildEvent::Result(result) = &mut built {
            result.outcome = BuildOutcome::Built {
                files: vec![file(Some("00")), file(None)],
            };
        }
        let path = || PathBuf::from("/out/x");
        assert_eq!(
            heard(&[built]).files,
            Some(vec![(path(), Some(5)), (path(), None)])
        );
    }

    #[test]
    fn a_host_without_boxbuild_or_with_another_one_is_unfit() {
        let mut nothing = Heard::default();
        nothing.take_line("srun: error: execve(): boxbuild: No such file\n");
        assert_eq!(kind(nothing.decide(&end())), Some(SetbackKind::Unreachable));
        nothing.take_worker(WorkerEvent::Place {
            host: String::from("n1"),
        });
        let Ended::Setback(setback) = nothing.decide(&end()) else {
            panic!()
        };
        assert_eq!(setback.kind, SetbackKind::Unfit);
        assert!(setback.reason.contains("execve"), "{}", setback.reason);
        let mut other = Heard::default();
        other.take_worker(WorkerEvent::Worker {
            host: String::from("n1"),
            version: String::from("99.0"),
        });
        assert_eq!(kind(other.decide(&end())), Some(SetbackKind::Unfit));
    }
}
