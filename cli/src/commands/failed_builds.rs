//! Failed builds that are kept: `boxbuild shell`, and what `builds` says of them.

use std::path::Path;

use serde::Serialize;

use super::forced_end::{GRACE, forced_end};
use super::signals;
use crate::args::ShellArgs;
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::progress::Progress;
use boxbuild_core::failed_builds::{FailedBuild, FailedBuildError, FailedBuilds};
use boxbuild_core::plan::PlanError;
use boxbuild_core::run::shell;
use boxbuild_core::terminal;
use boxbuild_engine::EngineChoice;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::stop::StopCheck;
use boxbuild_host::text::{shown, shown_path};
use boxbuild_host::units::{date, size};
use boxbuild_host::watchdog::Watchdog;

/// A kept build in `boxbuild builds --json`.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    id: String,
    /// Seconds since the epoch.
    failed: u64,
    reason: String,
    exit_code: u8,
    engine: String,
    #[serde(rename = "box")]
    box_name: String,
    description: String,
    target_dir: String,
    /// Size on the disk.
    bytes: u64,
    /// What the box wrote to its disk is kept.
    disk: bool,
    /// `boxbuild resume` can go on with it, unless something has changed since.
    resumable: bool,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_resumable: Option<String>,
    folder: String,
}

/// Returns a line on a kept build of which the history knows nothing.
pub(super) fn line(build: &FailedBuild) -> String {
    let record = &build.record;
    format!(
        "{}  {:>10}  {}: {}{}\n",
        date(record.time()),
        size(build.bytes),
        shown_path(Path::new(&record.description)),
        shown(&record.reason),
        if record.checkpoint.is_some() {
            " (can be resumed)"
        } else {
            ""
        }
    )
}

/// Returns a kept build for programs.
pub(super) fn row(build: &FailedBuild) -> Row {
    let record = &build.record;
    Row {
        id: record.id.clone(),
        failed: record.failed,
        reason: record.reason.clone(),
        exit_code: record.exit_code,
        engine: record.engine.clone(),
        box_name: record.info.name.clone(),
        description: record.description.to_string_lossy().into_owned(),
        target_dir: record.target_dir.to_string_lossy().into_owned(),
        bytes: build.bytes,
        disk: record.disk.is_some(),
        resumable: record.checkpoint.is_some(),
        not_resumable: record.no_checkpoint.clone(),
        folder: build.folder.to_string_lossy().into_owned(),
    }
}

/// Runs a shell in the box of a kept build.
///
/// # Errors
/// Fails if the build or its box is gone, or the machine cannot be started.
pub(crate) fn shell(args: &ShellArgs) -> Result<ExitCode> {
    let build = FailedBuilds::of_user()?.get(args.id.as_deref())?;
    let damaged = |problem| FailedBuildError::Damaged {
        id: build.record.id.clone(),
        problem,
    };
    if build.record.disk.is_none() {
        return Err(damaged(String::from(
            "it wrote into the box's own disk (--no-snapshot) and has none of its own",
        ))
        .into());
    }
    terminal::needed().map_err(|problem| PlanError::Option(format!("boxbuild shell {problem}")))?;
    let installed = build.record.installed(&build.folder).map_err(damaged)?;
    let _held = build.hold()?;
    let interrupt = signals::take_over()?;
    let stop = StopCheck::new(&interrupt, None);
    let _watchdog = Watchdog::start(stop, GRACE, |stopped| forced_end(stopped, false))
        .host_context(|| "cannot start a thread")?;
    // The disk is as that engine left it.
    let engine = EngineChoice::named(&build.record.engine)
        .ok_or_else(|| damaged(format!("the engine {} is not known", build.record.engine)))?;
    let selected = boxbuild_engine::select(engine, build.record.info.arch)?;
    let memory_mib = args.box_memory.map(|memory| memory.bytes >> 20);
    let mut progress = Progress::new(false);
    let record = &build.record;
    for (what, path, found) in [
        ("description", &record.description, record.description()),
        ("target folder", &record.target_dir, record.target_dir()),
    ] {
        if found.is_none() {
            progress.note(&format!(
                "the {what} {} is gone, or a link is there now; the box sees the kept logs in its place",
                shown_path(Path::new(path))
            ));
        }
    }
    let engine = selected.engine.as_ref();
    let failed = shell::run(
        &build,
        &installed,
        engine,
        memory_mib,
        &interrupt,
        &mut progress,
    )?;
    let Some((reason, lines)) = failed else {
        return Ok(ExitCode::SUCCESS);
    };
    for line in lines {
        progress.note(&format!("  | {line}"));
    }
    progress.note(&format!("boxbuild: {reason}"));
    Ok(reason.exit().into())
}
