//! `boxbuild builds`, `logs` and `shell`: failed builds that are kept.

use std::path::Path;

use serde::Serialize;

use super::forced_end::{GRACE, forced_end};
use super::signals;
use crate::args::{LogsArgs, ShellArgs};
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::event::BuildEvent;
use crate::output::json::{emit, emit_exit, print_document};
use crate::output::print::{log_lines, print_line, print_log, print_text};
use crate::output::progress::Progress;
use boxbuild_core::failed_builds::{FailedBuild, FailedBuildError, FailedBuilds, KeptLog};
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
#[serde(untagged)]
enum Row {
    Kept {
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
    },
    Damaged {
        id: String,
        problem: String,
    },
}

/// Lists the kept builds, the oldest first.
///
/// # Errors
/// Fails if the folder of kept builds cannot be read.
pub(crate) fn list(json: bool) -> Result<ExitCode> {
    let builds = FailedBuilds::of_user()?;
    let ids = builds.ids()?;
    let found = ids.into_iter().map(|id| {
        let build = builds.get(Some(&id));
        (id, build)
    });
    if json {
        let rows: Vec<Row> = found
            .map(|(id, build)| match build {
                Ok(build) => row(&build),
                Err(error) => Row::Damaged {
                    id,
                    problem: error.to_string(),
                },
            })
            .collect();
        print_document(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text: String = found
        .map(|(id, build)| match build {
            Ok(build) => line(&build),
            Err(error) => format!("{:<16} {error}\n", shown(&id)),
        })
        .collect();
    if text.is_empty() {
        print_line("No failed build is kept.");
    }
    print_text(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn line(build: &FailedBuild) -> String {
    let record = &build.record;
    format!(
        "{:<16} {}  {:>10}  {}: {}{}\n",
        record.id,
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

fn row(build: &FailedBuild) -> Row {
    let record = &build.record;
    Row::Kept {
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

/// Prints the log of a kept build, or the end of its console.
///
/// # Errors
/// Fails if there is no such build, or its log cannot be read.
pub(crate) fn logs(args: &LogsArgs) -> Result<ExitCode> {
    let build = FailedBuilds::of_user()?.get(args.id.as_deref())?;
    let log = if args.console {
        None
    } else {
        let log = build.open_log(KeptLog::Kiwi)?;
        if log.is_none() {
            print_line("kiwi wrote no log; this is the console of the box:");
        }
        log
    };
    let log = match log {
        Some(log) => Some(log),
        None => build.open_log(KeptLog::Console)?,
    };
    match log {
        Some(mut log) if args.json => log_lines(&mut log, |line| {
            emit(&BuildEvent::Line {
                text: line.to_owned(),
            });
            Ok(())
        })?,
        Some(mut log) => print_log(&mut log)?,
        None => {}
    }
    if args.json {
        emit_exit(ExitCode::SUCCESS);
    }
    Ok(ExitCode::SUCCESS)
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
