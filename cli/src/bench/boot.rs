//! The boot of an installed box.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use super::{Figure, Report, single};
use crate::args;
use crate::build::{self, Attempt, BuildError, Outcome, Runner};
use crate::engine::{self, Unusable};
use crate::interrupt::Interrupt;
use crate::plan::{BootChoice, Folders, Plan, PlanError};
use crate::progress::Progress;
use crate::store::{Store, StoreError};

/// A description that kiwi refuses at once: what is measured ends with kiwi's first line.
const DESCRIPTION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<image/>\n";

/// The boot could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The box.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// See [`Unusable`].
    #[error(transparent)]
    Engine(#[from] Unusable),
    /// See [`PlanError`].
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// See [`BuildError`].
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Temporary folders.
    #[error("cannot make a temporary folder")]
    Folder(#[from] std::io::Error),
    /// Our own words are wrong.
    #[error("cannot put the build together: {0}")]
    Arguments(String),
    /// The box came not as far as kiwi.
    #[error("the box did not come as far as kiwi: {0}")]
    Boot(String),
}

impl BenchError {
    /// Whether the user asked for something that does not exist.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            BenchError::Plan(_)
                | BenchError::Store(StoreError::Unknown { .. } | StoreError::BadName(_))
        )
    }
}

/// Boots the box `name` with `engine` (one of [`engine::NAMES`]) as far as kiwi's first line.
///
/// # Errors
/// If there is no such box, no engine, or the box does not come up.
pub fn boot(
    report: &mut Report,
    name: &str,
    engine: &str,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<(), BenchError> {
    let folder = tempfile::Builder::new()
        .prefix("boxbuild-bench-")
        .tempdir()?;
    let description = folder.path().join("description");
    fs::create_dir(&description)?;
    fs::write(description.join("config.kiwi"), DESCRIPTION)?;
    let invocation = args::parse(words(name, engine, &description, folder.path()))
        .map_err(|error| BenchError::Arguments(error.to_string()))?;
    let options = &invocation.cli.build;
    let folders = Folders::check(invocation.build_args.as_deref(), None)?;
    let installed = Store::of_user()?.get_for(name, None)?;
    let boot = BootChoice::new(&options.boot, &installed.info)?.first();
    let plan = Plan::new(options, folders, installed, boot)?;
    let selected = engine::select(&plan.engine, plan.installed.info.arch)?;
    if let Some(reason) = &selected.passed_over {
        report.skipped.push(format!("a better engine: {reason}"));
    }
    report.engine = Some(selected.engine.name().to_owned());
    let runner = Runner::Machine(selected.engine.as_ref());
    let run = build::run(&plan, runner, Attempt::Last, interrupt, progress)?;
    let Some(first_line) = run.timeline.first_line() else {
        return Err(BenchError::Boot(match &run.outcome {
            Outcome::Failed(failure) => failure.reason.to_string(),
            Outcome::Built(_) => String::from("it said nothing"),
        }));
    };
    let spans = run.timeline.spans.iter().filter(|span| span.boot);
    let parts = spans.map(|span| single("boot", &span.name, span.len()));
    report.figures.extend(parts);
    let total: Figure = single("boot", "all, to kiwi's first line", first_line);
    report.figures.push(total);
    Ok(())
}

fn words(name: &str, engine: &str, description: &Path, folder: &Path) -> Vec<OsString> {
    let target = folder.join("target");
    [
        "--box".as_ref(),
        name.as_ref(),
        "--engine".as_ref(),
        engine.as_ref(),
        "--network".as_ref(),
        "none".as_ref(),
        "--timeout".as_ref(),
        "5m".as_ref(),
        "--".as_ref(),
        "--description".as_ref(),
        description.as_os_str(),
        "--target-dir".as_ref(),
        target.as_os_str(),
    ]
    .map(std::ffi::OsStr::to_owned)
    .into()
}
