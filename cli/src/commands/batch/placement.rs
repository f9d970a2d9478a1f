//! Where the builds of a batch run: on this host, or through a runner.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use super::attempts::{Attempts, Next};
use super::check::CheckedBuild;
use super::child::words_of;
use super::remote::Start;
use super::runner::config::Kind;
use super::runner::{Choice, Pool, Runner};
use super::setback::Setback;
use super::shared_folder::SharedFolders;
use crate::commands::worker::protocol::{Build, Word};

/// Where builds run.
#[derive(Debug)]
pub(super) struct Placement<'r> {
    runner: Option<&'r Runner>,
    pool: Option<Pool>,
    shared: SharedFolders,
    attempts: BTreeMap<usize, Attempts>,
    none: Attempts,
}

/// Where a build can run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    /// Through the runner, on this host where it knows its hosts.
    Host(Option<String>),
    /// Not now.
    Wait,
    /// No host is left, and why.
    Nowhere(String),
}

impl<'r> Placement<'r> {
    /// Builds run on this host.
    pub(super) fn here() -> Placement<'r> {
        Placement {
            runner: None,
            pool: None,
            shared: SharedFolders::default(),
            attempts: BTreeMap::new(),
            none: Attempts::default(),
        }
    }

    /// Builds run through `runner`, on the hosts of `pool` if it knows them.
    pub(super) fn through(
        runner: &'r Runner,
        pool: Option<Pool>,
        shared: SharedFolders,
    ) -> Placement<'r> {
        Placement {
            runner: Some(runner),
            pool,
            shared,
            ..Placement::here()
        }
    }

    /// Whether builds run through a runner.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.runner.is_some()
    }

    /// The attempts at a build so far.
    pub(super) fn attempts(&self, number: usize) -> &Attempts {
        self.attempts.get(&number).unwrap_or(&self.none)
    }

    /// An earlier batch has begun the build, and nothing says that it has ended.
    pub(super) fn may_still_run(&mut self, number: usize) {
        if let Some(runner) = self.runner {
            let attempts = self.attempts.entry(number).or_default();
            attempts.not_before = Some(Instant::now() + runner.afterlife());
        }
    }

    /// Chooses a place for a build, beside `running` others. It counts as taken ([`Placement::free`]).
    pub(super) fn choose(&mut self, number: usize, running: usize) -> Place {
        let Some(runner) = self.runner else {
            return Place::Here;
        };
        let now = Instant::now();
        let attempts = self.attempts.entry(number).or_default();
        if running >= runner.config.jobs || attempts.not_before.is_some_and(|until| until > now) {
            return Place::Wait;
        }
        let Some(pool) = &mut self.pool else {
            return Place::Host(None);
        };
        match pool.choose(&attempts.unfit, &attempts.lost, now) {
            Choice::Host(name) => Place::Host(Some(name)),
            Choice::Wait => Place::Wait,
            Choice::None => {
                let reason = self.reason(number);
                Place::Nowhere(format!("no host is left for it: {reason}"))
            }
        }
    }

    /// Returns what starts the build through the runner; `None` if it runs on this host.
    ///
    /// # Errors
    /// Fails if nothing can be written where its results go.
    pub(super) fn start(
        &mut self,
        number: usize,
        build: &CheckedBuild,
        host: Option<&str>,
    ) -> io::Result<Option<Start>> {
        let Some(runner) = self.runner else {
            return Ok(None);
        };
        let shared = self.shared.file_for(&build.target_dir)?;
        let mut job = runner.job(runner.expected(build, &shared));
        let words = words_of(build);
        job.build = Some(Build {
            folder: std::env::current_dir()?.as_path().into(),
            words: words
                .iter()
                .map(|word| Word::from(word.as_os_str()))
                .collect(),
            target_dir: build.target_dir.as_path().into(),
        });
        let avoid: Vec<String> = self.attempts(number).unfit.iter().cloned().collect();
        let fields = runner.fields(number, build, host, &avoid);
        Ok(Some(Start {
            command: runner.command(&fields),
            cancel: runner.cancel(&fields),
            job: serde_json::to_string(&job)?,
            host: host.map(str::to_owned),
            lost_after: runner.config.lost_after,
            is_ssh: runner.config.kind == Kind::Ssh,
        }))
    }

    /// A build has left its host.
    pub(super) fn free(&mut self, host: Option<&str>) {
        if let (Some(pool), Some(host)) = (&mut self.pool, host) {
            pool.free(host);
        }
    }

    /// A build has begun on the host.
    pub(super) fn good(&mut self, host: &str) {
        if let Some(pool) = &mut self.pool {
            pool.good(host);
        }
    }

    /// Takes a setback of a build.
    pub(super) fn set_back(
        &mut self,
        number: usize,
        setback: &Setback,
        host: Option<&str>,
        time: Duration,
    ) -> Next {
        let Some(runner) = self.runner else {
            return Next::GiveUp;
        };
        let attempts = self.attempts.entry(number).or_default();
        attempts.set_back(setback, host, time, runner, self.pool.as_mut())
    }

    /// Returns why a build was not carried out.
    pub(super) fn reason(&self, number: usize) -> String {
        let out = self.pool.as_ref().map(Pool::out).unwrap_or_default();
        self.attempts(number).reason(&out)
    }
}
