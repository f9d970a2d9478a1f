//! The boot of an installed box.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::report::{Report, single};
use crate::output::progress::Progress;
use boxbuild_boxes::store::{Store, StoreError};
use boxbuild_core::held_folders::HeldFolders;
use boxbuild_core::host_facts::HostFacts;
use boxbuild_core::plan::{Folders, PlanError};
use boxbuild_core::request::BuildRequest;
use boxbuild_core::resolve::Resolved;
use boxbuild_core::run::{self, Attempt, BuildError, Outcome, Runner};
use boxbuild_engine::{EngineChoice, Network, Unusable};
use boxbuild_host::error::{Classify, ErrorClass};
use boxbuild_host::interrupt::Interrupt;

/// A description that kiwi refuses at once: the measurement ends with kiwi's first line.
const DESCRIPTION: &str = "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<image/>\n";

/// A box that has not started kiwi by then counts as failed.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The boot could not be measured.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Engine(#[from] Unusable),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("cannot create a temporary folder")]
    Folder(#[from] std::io::Error),
    #[error("the box did not start kiwi: {0}")]
    Boot(String),
}

impl Classify for BenchError {
    fn class(&self) -> ErrorClass {
        match self {
            BenchError::Store(error) => error.class(),
            BenchError::Plan(error) => error.class(),
            _ => ErrorClass::Host,
        }
    }
}

/// Boots the box `name` with `engine` up to kiwi's first line.
///
/// # Errors
/// Fails if there is no such box or engine, or the box does not start kiwi.
#[expect(clippy::disallowed_methods, reason = "a folder of its own")]
pub(super) fn measure(
    report: &mut Report,
    name: &str,
    engine: EngineChoice,
    interrupt: &Interrupt,
    progress: &mut Progress,
) -> Result<(), BenchError> {
    let folder = tempfile::Builder::new()
        .prefix("boxbuild-bench-")
        .tempdir()?;
    let description = folder.path().join("description");
    fs::create_dir(&description)?;
    fs::write(description.join("config.kiwi"), DESCRIPTION)?;
    let request = request(name, engine, description, folder.path().join("target"));
    let host = HostFacts::of_process();
    let folders = Folders::check(&request)?;
    let installed = Store::of_user()?.get_for(name, None)?;
    let resolved = Resolved::with_box(&request, &host, folders, installed)?;
    let plan = resolved.plan(resolved.choice().first())?;
    let selected = boxbuild_engine::select(plan.engine, plan.installed.info.arch)?;
    if let Some(reason) = &selected.passed_over {
        report.skipped.push(format!("a better engine: {reason}"));
    }
    report.engine = Some(selected.engine.name().to_owned());
    let runner = Runner::Machine(selected.engine.as_ref());
    let folders = HeldFolders::take(&plan).map_err(BuildError::from)?;
    let run = run::run(&plan, &folders, runner, Attempt::Last, interrupt, progress)?;
    let Some(first_line) = run.timeline.first_line() else {
        return Err(BenchError::Boot(match &run.outcome {
            Outcome::Failed(failure) => failure.reason.to_string(),
            Outcome::Built(_) => String::from("kiwi wrote no log"),
        }));
    };
    let spans = run.timeline.spans.iter().filter(|span| span.boot);
    let parts = spans.map(|span| single("boot", &span.name, span.len()));
    report.figures.extend(parts);
    let total = single("boot", "all, to kiwi's first line", first_line);
    report.figures.push(total);
    Ok(())
}

/// Returns the request for a build that ends with kiwi's first line.
fn request(
    name: &str,
    engine: EngineChoice,
    description: PathBuf,
    target_dir: PathBuf,
) -> BuildRequest {
    BuildRequest {
        engine,
        network: Network::None,
        timeout: Some(TIMEOUT),
        ..BuildRequest::new(name, description, target_dir)
    }
}
