//! Runners: what starts the builds of a batch on other hosts (docs/runners.md).
//!
//! A runner is a command that starts what follows it somewhere else, and waits: `srun`, `ssh HOST`, or
//! what the user has. What follows is `boxbuild worker` ([`crate::commands::worker`]); its events decide
//! about a build, and never how the command ended: srun ends with 0 when a node fails.

pub(super) mod config;
mod pool;
pub(super) mod probe;
mod quote;
mod words;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use boxbuild_host::program;
use boxbuild_host::reaper::die_with_parent;
use nix::sys::signal::Signal;

use super::admission::needed;
use super::check::CheckedBuild;
use crate::commands::worker::protocol::{
    END_OF_BUILD, Expected, ExpectedBox, ExpectedDescription, Job, PROTOCOL, SharedFile, VERSION,
};
use config::{Kind, RunnerConfig};
use quote::quote;
use words::{Fields, fill};

pub(super) use pool::{Choice, Pool};

/// Says where it runs before boxbuild is there: of a node without it, nothing else would.
const SAY_PLACE: &str =
    r#"printf '{"event":"place","host":"%s"}\n' "${SLURMD_NODENAME:-$(uname -n)}"; exec "$@""#;

/// Time that a build may take besides its limit: to fetch, boot, stop and publish.
const MORE_MINUTES: u64 = 15;

/// Most characters of a build's name in that of its job.
const LONGEST_NAME: usize = 40;

/// A runner.
#[derive(Debug)]
pub(super) struct Runner {
    pub(super) config: RunnerConfig,
    /// Makes names of jobs unique.
    id: String,
}

impl Runner {
    /// A runner for this batch.
    pub(super) fn new(config: RunnerConfig) -> Runner {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.map_or(0, |time| time.as_millis() as u64);
        let id = format!("{:x}-{:x}", std::process::id(), now & 0xff_ffff);
        Runner { config, id }
    }

    /// Its hosts, where it knows them.
    pub(super) fn pool(&self) -> Option<Pool> {
        (self.config.kind == Kind::Ssh).then(|| Pool::new(&self.config.hosts))
    }

    /// Returns the program that is missing on this host.
    pub(super) fn missing_program(&self) -> Option<String> {
        let missing = |words: &[String]| {
            let name = words.first()?;
            let there = if name.contains('/') {
                Path::new(name).exists()
            } else {
                program::find(name).is_some()
            };
            (!there).then(|| name.clone())
        };
        missing(&self.config.prefix).or_else(|| missing(&self.config.cancel))
    }

    /// How long a build that was lost may still run somewhere.
    pub(super) fn afterlife(&self) -> Duration {
        self.config.lost_after + END_OF_BUILD
    }

    /// Returns what it is called in plans.
    pub(super) fn describe(&self) -> String {
        let kind = match self.config.kind {
            Kind::Slurm => "slurm",
            Kind::Ssh => "ssh",
            Kind::Command => "command",
        };
        format!("{} ({kind})", self.config.name)
    }

    /// Returns the words that start a build, for `--dry-run`.
    pub(super) fn example(&self, number: usize, build: &CheckedBuild) -> Vec<String> {
        let mut fields = self.fields(number, build, None, &[]);
        fields.name = format!("boxbuild-…-{number}");
        if self.config.kind == Kind::Ssh {
            fields.host = Some(String::from("{host}"));
        }
        self.words(&fields)
    }

    /// Returns the fields of a build, on the host `host` where that is known, but on none of `avoid`.
    pub(super) fn fields(
        &self,
        number: usize,
        build: &CheckedBuild,
        host: Option<&str>,
        avoid: &[String],
    ) -> Fields {
        let machine = build.memory > 0;
        // Names of jobs are for shells and tables of others.
        let plain = |char: char| {
            if char.is_ascii_alphanumeric() || "._-".contains(char) {
                char
            } else {
                '_'
            }
        };
        let name: String = build.name.chars().map(plain).take(LONGEST_NAME).collect();
        Fields {
            name: format!("boxbuild-{}-{number}-{name}", self.id),
            cpus: machine.then_some(build.cpus),
            memory_mib: machine.then(|| needed(build.memory) >> 20),
            minutes: build
                .timeout
                .map(|limit| limit.as_secs().div_ceil(60) + MORE_MINUTES),
            host: host.map(str::to_owned),
            avoid: (!avoid.is_empty()).then(|| avoid.join(",")),
        }
    }

    /// Returns the command that starts a worker.
    pub(super) fn command(&self, fields: &Fields) -> Command {
        let mut command = command_of(&self.words(fields));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Returns the command that ends a job which may still be there.
    pub(super) fn cancel(&self, fields: &Fields) -> Option<Command> {
        let words = fill(&self.config.cancel, fields);
        (!words.is_empty()).then(|| {
            let mut command = command_of(&words);
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command
        })
    }

    fn words(&self, fields: &Fields) -> Vec<String> {
        let mut words = fill(&self.config.prefix, fields);
        let program = self.config.program.iter().map(String::as_str);
        let program: Vec<&str> = program.chain(["worker"]).collect();
        match self.config.kind {
            Kind::Slurm => {
                words.extend(["sh", "-c", SAY_PLACE, "sh"].map(String::from));
                words.extend(program.into_iter().map(String::from));
            }
            // ssh makes one text of them, for a shell. All can be quoted, or the runner is refused.
            Kind::Ssh => words.extend(program.into_iter().filter_map(quote)),
            Kind::Command => words.extend(program.into_iter().map(String::from)),
        }
        words
    }

    /// Returns a job without a build, which expects what `expected` says.
    pub(super) fn job(&self, expected: Expected) -> Job {
        Job {
            protocol: PROTOCOL,
            version: VERSION.to_owned(),
            lost_after_seconds: self.config.lost_after.as_secs(),
            expected,
            build: None,
        }
    }

    /// Returns what a build expects of a host.
    pub(super) fn expected(&self, build: &CheckedBuild, shared: &SharedFile) -> Expected {
        let expected_box = build.box_files.clone().map(|files| ExpectedBox {
            name: build.box_name.clone(),
            files,
        });
        let description = build
            .fingerprint
            .clone()
            .map(|fingerprint| ExpectedDescription {
                folder: build.description.as_path().into(),
                fingerprint,
            });
        let kvm = self.config.kvm && build.memory > 0;
        Expected {
            boxes: expected_box.into_iter().collect(),
            descriptions: description.into_iter().collect(),
            shared: vec![shared.clone()],
            kvm: kvm.then(|| build.arch.to_owned()),
        }
    }
}

/// Returns a command that leads a process group of its own, and ends with this process.
fn command_of(words: &[String]) -> Command {
    let (name, arguments) = words
        .split_first()
        .map_or(("", &[][..]), |(name, arguments)| {
            (name.as_str(), arguments)
        });
    // Not as execvp(3) finds it: the current folder is that of the batch file, which may be a clone, and
    // PATH may have names that begin there.
    let program = program::find(name).unwrap_or_else(|| name.into());
    let mut command = Command::new(program);
    command.args(arguments).process_group(0);
    die_with_parent(&mut command, Signal::SIGTERM);
    command
}
