//! Runners as the user has defined them: `[runner.NAME]` in the settings file, or in the file of
//! `--runner-config`. A batch file defines none: it may be of a folder that was cloned, and a runner is
//! a command.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::input;
use boxbuild_host::nearest::{TYPO, nearest};
use boxbuild_host::text::shown_path;
use serde::Deserialize;

use super::quote::quote;
use super::words;
use crate::args::{MOST_JOBS, parse_duration};

/// The name of the runner that every user has: this host.
pub(in crate::commands::batch) const LOCAL: &str = "local";

/// Builds that a queue gets at once, unless the user says otherwise.
const JOBS: usize = 100;

/// Most retries.
const MOST_RETRIES: u32 = 20;

/// After so long without a sign of life, a build counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(30);

/// The shortest and the longest of such times.
const LOST_RANGE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3600));

/// What kind of runner it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::commands::batch) enum Kind {
    /// Jobs of Slurm.
    Slurm,
    /// Hosts that are reached by ssh.
    Ssh,
    /// Any command that waits.
    Command,
}

/// A runner, checked.
#[derive(Debug, Clone)]
pub(in crate::commands::batch) struct RunnerConfig {
    pub(in crate::commands::batch) name: String,
    pub(in crate::commands::batch) kind: Kind,
    pub(super) prefix: Vec<String>,
    pub(super) cancel: Vec<String>,
    /// boxbuild on the other hosts, and what stands before it.
    pub(super) program: Vec<String>,
    /// How often a build that was lost is begun again.
    pub(in crate::commands::batch) retries: u32,
    /// How many builds run at once.
    pub(in crate::commands::batch) jobs: usize,
    pub(in crate::commands::batch) lost_after: Duration,
    /// Hosts on which the kvm engine does not work are not used.
    pub(in crate::commands::batch) kvm: bool,
    /// Hosts, and how many builds each runs at once.
    pub(super) hosts: Vec<(String, usize)>,
}

/// The same as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    kind: Kind,
    prefix: Option<Vec<String>>,
    cancel: Option<Vec<String>>,
    program: Option<Words>,
    retries: Option<u32>,
    jobs: Option<usize>,
    lost_after: Option<String>,
    #[serde(default)]
    kvm: bool,
    hosts: Option<Hosts>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Hosts {
    OneBuildEach(Vec<String>),
    Slots(BTreeMap<String, usize>),
}

/// A runner cannot be had.
#[derive(Debug, thiserror::Error)]
pub(in crate::commands::batch) enum RunnerError {
    #[error("cannot read the runners in {}", shown_path(.path))]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{}:{line}: {message}", shown_path(.path))]
    Toml {
        path: PathBuf,
        line: usize,
        message: String,
    },
    #[error("--runner {name}: there is no [runner.{name}] in {place}{hint}")]
    Unknown {
        name: String,
        place: String,
        hint: String,
    },
    #[error("{place}: [runner.{name}]: {problem}")]
    Wrong {
        name: String,
        place: String,
        problem: String,
    },
}

impl Classify for RunnerError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

/// Runners as they are written, by their names.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(in crate::commands::batch) struct Runners(BTreeMap<String, Written>);

/// A file with runners, which may have other settings.
#[derive(Debug, Deserialize)]
struct RunnersFile {
    #[serde(default)]
    runner: Runners,
}

/// Reads a file with runners.
///
/// # Errors
/// Fails if it cannot be read, or something is wrong in it.
pub(in crate::commands::batch) fn read(path: &Path) -> Result<Runners, RunnerError> {
    let text = input::read_text(path).map_err(|source| RunnerError::Read {
        path: path.to_owned(),
        source,
    })?;
    from_text(path, &text)
}

fn from_text(path: &Path, text: &str) -> Result<Runners, RunnerError> {
    let file: RunnersFile = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        RunnerError::Toml {
            path: path.to_owned(),
            line: 1 + text.as_bytes()[..at]
                .iter()
                .filter(|byte| **byte == b'\n')
                .count(),
            message: error.message().to_owned(),
        }
    })?;
    Ok(file.runner)
}

impl Runners {
    /// Returns the runner `name`. Without such a table, `slurm` is the runner with the defaults of its
    /// kind. `place` is where they are from, for messages.
    ///
    /// # Errors
    /// Fails if there is no such runner, or something is wrong with it.
    pub(in crate::commands::batch) fn get(
        mut self,
        name: &str,
        place: &str,
    ) -> Result<RunnerConfig, RunnerError> {
        let written = match self.0.remove(name) {
            Some(written) => written,
            None if name == "slurm" => Written::of(Kind::Slurm),
            None => {
                let known = self.0.keys().map(String::as_str);
                let known: Vec<&str> = known.chain(["slurm", LOCAL]).collect();
                let near = nearest(name, known.iter().copied(), TYPO);
                let hint = near.map_or_else(
                    || format!("; runners are {}", known.join(", ")),
                    |near| format!("; did you mean {near}?"),
                );
                return Err(RunnerError::Unknown {
                    name: name.to_owned(),
                    place: place.to_owned(),
                    hint,
                });
            }
        };
        written.check(name).map_err(|problem| RunnerError::Wrong {
            name: name.to_owned(),
            place: place.to_owned(),
            problem,
        })
    }
}

impl Written {
    fn of(kind: Kind) -> Written {
        Written {
            kind,
            prefix: None,
            cancel: None,
            program: None,
            retries: None,
            jobs: None,
            lost_after: None,
            kvm: false,
            hosts: None,
        }
    }

    fn check(self, name: &str) -> Result<RunnerConfig, String> {
        let kind = self.kind;
        let hosts = checked_hosts(kind, self.hosts)?;
        let prefix = self.prefix.unwrap_or_else(|| owned(kind.prefix()));
        if prefix.is_empty() {
            return Err(String::from(
                "prefix is missing: the command that starts what follows on another host, and waits",
            ));
        }
        let cancel = self.cancel.unwrap_or_else(|| owned(kind.cancel()));
        let program = match self.program {
            None => owned(&["boxbuild"]),
            Some(Words::One(word)) => vec![word],
            Some(Words::Several(words)) => words,
        };
        check_words(kind, &prefix, &cancel, &program)?;
        let retries = self.retries.unwrap_or(1);
        if retries > MOST_RETRIES {
            return Err(format!("retries: at most {MOST_RETRIES}"));
        }
        let slots: usize = hosts.iter().map(|(_, slots)| slots).sum();
        let all = if kind == Kind::Ssh { slots } else { JOBS };
        let jobs = self.jobs.unwrap_or(all);
        if !(1..=MOST_JOBS).contains(&jobs) {
            return Err(format!("jobs: a number from 1 to {MOST_JOBS}"));
        }
        let lost_after = match self.lost_after {
            Some(text) => {
                parse_duration(&text).map_err(|problem| format!("lost-after: {problem}"))?
            }
            None => LOST_AFTER,
        };
        if !(LOST_RANGE.0..=LOST_RANGE.1).contains(&lost_after) {
            return Err(String::from("lost-after: from 2s to 1h"));
        }
        Ok(RunnerConfig {
            name: name.to_owned(),
            kind,
            prefix,
            cancel,
            program,
            retries,
            jobs,
            lost_after,
            kvm: self.kvm,
            hosts,
        })
    }
}

impl Kind {
    /// The command that waits, unless the user has another one.
    fn prefix(self) -> &'static [&'static str] {
        match self {
            Kind::Slurm => &[
                "srun",
                "--quiet",
                "--nodes=1",
                "--ntasks=1",
                "--job-name={name}",
                "--cpus-per-task={cpus}",
                "--mem={memory_mib}M",
                "--time={minutes}",
                "--exclude={avoid}",
                "--",
            ],
            Kind::Ssh => &[
                "ssh",
                "-T",
                "-o",
                "BatchMode=yes",
                "-o",
                "ConnectTimeout=15",
                "-o",
                "ServerAliveInterval=10",
                "-o",
                "ServerAliveCountMax=3",
                "--",
                "{host}",
            ],
            Kind::Command => &[],
        }
    }

    /// The command that ends a job which may still be there.
    fn cancel(self) -> &'static [&'static str] {
        match self {
            Kind::Slurm => &["scancel", "--quiet", "--name={name}"],
            Kind::Ssh | Kind::Command => &[],
        }
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn checked_hosts(kind: Kind, hosts: Option<Hosts>) -> Result<Vec<(String, usize)>, String> {
    let hosts: Vec<(String, usize)> = match hosts {
        None => Vec::new(),
        Some(Hosts::OneBuildEach(names)) => names.into_iter().map(|name| (name, 1)).collect(),
        Some(Hosts::Slots(hosts)) => hosts.into_iter().collect(),
    };
    if (kind == Kind::Ssh) == hosts.is_empty() {
        return Err(String::from(if hosts.is_empty() {
            "hosts is missing: write e.g. hosts = { \"build1\" = 2, \"build2\" = 4 }, each with its \
             number of builds"
        } else {
            "hosts: only for the kind ssh"
        }));
    }
    let mut seen = Vec::new();
    for (name, slots) in &hosts {
        let odd = |char: char| char.is_whitespace() || char.is_control() || char == ',';
        // ssh would take it for an option.
        if name.is_empty() || name.starts_with('-') || name.contains(odd) {
            return Err(format!(
                "hosts: '{}' is not the name of a host",
                name.escape_debug()
            ));
        }
        if !(1..=MOST_JOBS).contains(slots) {
            return Err(format!("hosts: {name}: a number from 1 to {MOST_JOBS}"));
        }
        if seen.contains(&name) {
            return Err(format!("hosts: {name} is there twice: give it two builds"));
        }
        seen.push(name);
    }
    Ok(hosts)
}

fn check_words(
    kind: Kind,
    prefix: &[String],
    cancel: &[String],
    program: &[String],
) -> Result<(), String> {
    for (key, words) in [("prefix", prefix), ("cancel", cancel)] {
        for word in words {
            if let Some(problem) = words::unknown(word) {
                return Err(format!("{key}: {problem}"));
            }
            if word.contains('\0') {
                return Err(format!("{key}: a zero byte"));
            }
            if kind != Kind::Ssh && words::has(word, "host") {
                return Err(format!(
                    "{key}: {word}: only the kind ssh knows its hosts before"
                ));
            }
        }
    }
    for (key, words) in [("prefix", prefix), ("cancel", cancel)] {
        // It would begin in the folder of the batch file.
        if let Some(name) = words.first()
            && name.contains('/')
            && !name.starts_with('/')
        {
            return Err(format!(
                "{key}: {name}: write the whole path of the program, or a name in PATH"
            ));
        }
    }
    if kind == Kind::Ssh && !prefix.iter().any(|word| words::has(word, "host")) {
        return Err(String::from("prefix: {host} is missing"));
    }
    if program.first().is_none_or(String::is_empty) {
        return Err(String::from("program: there is no word"));
    }
    match program.iter().find(|word| quote(word).is_none()) {
        Some(word) => Err(format!(
            "program: '{}' has the end of a line",
            word.escape_debug()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(in crate::commands::batch) mod tests {
    use super::*;

    /// A runner with these lines.
    pub(in crate::commands::batch) fn runner_of(lines: &str) -> RunnerConfig {
        of("x", &format!("[runner.x]\n{lines}\n")).unwrap()
    }

    fn of(name: &str, text: &str) -> Result<RunnerConfig, String> {
        let path = Path::new("/x/boxbuild.toml");
        let runners = from_text(path, text).map_err(|error| error.to_string())?;
        let place = path.display().to_string();
        runners.get(name, &place).map_err(|error| error.to_string())
    }

    #[test]
    fn a_runner_is_read_beside_other_settings() {
        let text = r#"
            box = "debian"
            [runner.farm]
            kind = "slurm"
            prefix = ["srun", "--mem={memory_mib}M", "--constraint=kvm", "--"]
            retries = 2
            jobs = 7
            lost-after = "1m"
            kvm = true
            program = ["env", "KIWI_BOXED_CACHE_DIR=/shared/boxes", "boxbuild"]
            [runner.pair]
            kind = "ssh"
            hosts = { "one" = 2, "me@two.example" = 4 }
        "#;
        let farm = of("farm", text).unwrap();
        assert_eq!((farm.retries, farm.jobs, farm.kvm), (2, 7, true));
        assert_eq!(farm.lost_after, Duration::from_secs(60));
        assert_eq!(farm.program.len(), 3);
        assert_eq!(farm.cancel[0], "scancel");
        let pair = of("pair", text).unwrap();
        assert_eq!(pair.jobs, 6);
        assert!(pair.prefix.contains(&String::from("{host}")));
        assert_eq!(of("slurm", "").unwrap().prefix[0], "srun");
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("[runner.x]\nkind = 'slrum'", "slurm"),
            ("[runner.x]\nkind = 'slurm'\nprefx = []", "prefx"),
            ("[runner.x]\nkind = 'command'", "prefix is missing"),
            ("[runner.x]\nkind = 'ssh'", "hosts is missing"),
            (
                "[runner.x]\nkind = 'ssh'\nhosts = ['-oProxyCommand=id']",
                "not the name of a host",
            ),
            ("[runner.x]\nkind = 'ssh'\nhosts = ['a', 'a']", "twice"),
            ("[runner.x]\nkind = 'ssh'\nhosts = { a = 0 }", "from 1"),
            (
                "[runner.x]\nkind = 'ssh'\nhosts = ['a']\nprefix = ['ssh']",
                "{host} is missing",
            ),
            (
                "[runner.x]\nkind = 'slurm'\nhosts = ['a']",
                "only for the kind ssh",
            ),
            (
                "[runner.x]\nkind = 'slurm'\nprefix = ['srun', '{mem}']",
                "no field {mem}",
            ),
            (
                "[runner.x]\nkind = 'command'\nprefix = ['x', '{host}']",
                "only the kind ssh",
            ),
            (
                "[runner.x]\nkind = 'command'\nprefix = ['./submit']",
                "the whole path",
            ),
            ("[runner.x]\nkind = 'slurm'\nlost-after = '0s'", "from 2s"),
            ("[runner.x]\nkind = 'slurm'\nretries = 99", "at most"),
            ("[runner.x]\nkind = 'slurm'\nprogram = []", "no word"),
            (
                "[runner.x]\nkind = 'slurm'\nprogram = \"a\\nb\"",
                "end of a line",
            ),
            ("[runner.xy]\nkind = 'slurm'", "did you mean xy?"),
            (
                "[runner.far]\nkind = 'slurm'",
                "runners are far, slurm, local",
            ),
            ("runner = 1", "boxbuild.toml:1: "),
            ("\n[runner", "boxbuild.toml:2: "),
            (
                "[runner.x]\nkind = 'ssh'\nretries = 'no'",
                "boxbuild.toml:3: ",
            ),
        ] {
            let error = of("x", text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert!(error.contains("/x/boxbuild.toml"), "{error}");
        }
    }
}
