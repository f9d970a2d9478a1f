//! `boxbuild batch --dry-run`.

use std::path::Path;

use boxbuild_host::secret;
use boxbuild_host::text::{shown, shown_path};
use serde::Serialize;

use super::admission::Limits;
use super::check::{CheckedBatch, CheckedBuild};
use super::runner::Runner;

/// The document of `--dry-run --json`.
#[derive(Debug, Serialize)]
pub(super) struct BatchPlan<'a> {
    /// How many builds run at once.
    jobs: usize,
    /// Why so many, for people.
    jobs_reason: &'a str,
    log_dir: String,
    /// The runner, with its kind; null: builds run on this host.
    runner: Option<String>,
    /// What the user should know.
    notes: &'a [String],
    builds: Vec<BuildPlan<'a>>,
}

/// A build in the plan.
#[derive(Debug, Serialize)]
struct BuildPlan<'a> {
    build: &'a str,
    #[serde(rename = "box")]
    box_name: &'a str,
    arch: &'static str,
    engine: &'a str,
    /// Guest memory; 0 in a container.
    memory_mib: u64,
    /// Virtual CPUs; 0 in a container.
    cpus: u32,
    target_dir: String,
    /// The words of the command line, without the program's name.
    arguments: Vec<String>,
    /// The command of the runner.
    #[serde(skip_serializing_if = "Option::is_none")]
    runner_command: Option<Vec<String>>,
    /// Those of the test of its image, or null.
    test: Option<Vec<String>>,
}

impl<'a> BatchPlan<'a> {
    /// The plan for a batch.
    pub(super) fn new(
        batch: &'a CheckedBatch,
        limits: &'a Limits,
        log_dir: &Path,
        runner: Option<&Runner>,
    ) -> BatchPlan<'a> {
        let plan = |(number, build): (usize, &'a CheckedBuild)| BuildPlan {
            build: &build.name,
            box_name: &build.box_name,
            arch: build.arch,
            engine: &build.engine,
            memory_mib: build.memory >> 20,
            cpus: build.cpus,
            target_dir: build.target_dir.display().to_string(),
            arguments: arguments(build),
            runner_command: runner.map(|runner| runner.example(number, build)),
            test: build.test.as_deref().map(secret::redact_words),
        };
        BatchPlan {
            jobs: limits.at_once(&batch.memory()),
            jobs_reason: &limits.reason,
            log_dir: log_dir.display().to_string(),
            runner: runner.map(Runner::describe),
            notes: &batch.notes,
            builds: batch.builds.iter().enumerate().map(plan).collect(),
        }
    }
}

/// Returns how many builds there are, and how many run at once.
pub(super) fn heading(batch: &CheckedBatch, limits: &Limits) -> String {
    let total = batch.builds.len();
    let plural = if total == 1 { "" } else { "s" };
    format!(
        "{total} build{plural}, {} at once ({})",
        limits.at_once(&batch.memory()),
        limits.reason
    )
}

/// Returns the plan for people.
pub(super) fn describe(
    batch: &CheckedBatch,
    limits: &Limits,
    log_dir: &Path,
    runner: Option<&Runner>,
) -> String {
    let mut text = heading(batch, limits) + "\n";
    for note in &batch.notes {
        text += &format!("{note}\n");
    }
    text += &format!("logs         {}\n", shown_path(log_dir));
    if let Some(runner) = runner {
        text += &format!("runner       {}\n", shown(&runner.describe()));
    }
    for (number, build) in batch.builds.iter().enumerate() {
        let machine = if build.memory == 0 {
            String::new()
        } else {
            let plural = if build.cpus == 1 { "" } else { "s" };
            format!(
                ", {} CPU{plural}, {} MiB memory",
                build.cpus,
                build.memory >> 20
            )
        };
        text += &format!(
            "\n{}\n  box          {} ({}), {}{machine}\n  target-dir   {}\n  command      boxbuild {}\n",
            build.name,
            build.box_name,
            build.arch,
            build.engine,
            shown_path(&build.target_dir),
            shown(&shell_words::join(arguments(build))),
        );
        if let Some(runner) = runner {
            let words = shell_words::join(runner.example(number, build));
            text += &format!("  started by   {}\n", shown(&words));
        }
        if let Some(test) = &build.test {
            let words = shell_words::join(secret::redact_words(test));
            text += &format!("  test         boxbuild {}\n", shown(&words));
        }
    }
    text
}

fn arguments(build: &CheckedBuild) -> Vec<String> {
    secret::redact_words(&build.argv)
}
