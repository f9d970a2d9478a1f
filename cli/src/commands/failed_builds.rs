//! `boxbuild builds`, `logs`, `shell` and `prune`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::args::{LogsArgs, ShellArgs};
use crate::exit_code::{ExitCode, HostContext, Result};
use crate::output::print::print_line;
use crate::output::progress::Progress;
use boxbuild_core::failed_builds::{FailedBuild, FailedBuildError, FailedBuilds};
use boxbuild_core::plan::PlanError;
use boxbuild_core::run::shell;
use boxbuild_core::terminal;
use boxbuild_engine::EngineChoice;
use boxbuild_host::interrupt::Interrupt;
use boxbuild_host::reporter::Reporter;
use boxbuild_host::units::{date, size};

/// Lists the builds that are kept, the oldest first.
///
/// # Errors
/// If they cannot be read.
pub(crate) fn builds(json: bool) -> Result<String> {
    let builds = FailedBuilds::of_user()?;
    let mut rows = Vec::new();
    let mut text = String::new();
    for id in builds.ids()? {
        match builds.get(Some(&id)) {
            Ok(build) => {
                text += &line(&build);
                rows.push(row(&build));
            }
            Err(error) => {
                text += &format!("{id:<16} {error}\n");
                rows.push(serde_json::json!({"id": id, "problem": error.to_string()}));
            }
        }
    }
    if json {
        let text = serde_json::to_string_pretty(&rows).host_context(|| "cannot write JSON")?;
        return Ok(text + "\n");
    }
    if text.is_empty() {
        print_line("No failed build is kept.");
    }
    Ok(text)
}

fn line(build: &FailedBuild) -> String {
    let record = &build.record;
    format!(
        "{:<16} {}  {:>10}  {}: {}\n",
        record.id,
        date(record.time()),
        size(build.bytes),
        Path::new(&record.description).display(),
        record.reason,
    )
}

fn row(build: &FailedBuild) -> serde_json::Value {
    let record = &build.record;
    serde_json::json!({
        "id": record.id,
        "failed": record.failed,
        "reason": record.reason,
        "exit_code": record.exit_code,
        "engine": record.engine,
        "box": record.info.name,
        "description": record.description.to_string_lossy(),
        "target_dir": record.target_dir.to_string_lossy(),
        "bytes": build.bytes,
        "disk": record.disk.is_some(),
        "folder": build.folder.to_string_lossy(),
    })
}

/// Writes a log to standard output.
///
/// # Errors
/// If there is none.
pub(crate) fn logs(args: &LogsArgs) -> Result<()> {
    let build = FailedBuilds::of_user()?.get(args.id.as_deref())?;
    let log = build.folder.join("result.log");
    let path = if args.console || !log.exists() {
        if !args.console {
            print_line("kiwi wrote no log; this is the box's console:");
        }
        build.folder.join("console.log")
    } else {
        log
    };
    let mut file =
        File::open(&path).host_context(|| format!("cannot open the log {}", path.display()))?;
    match io::copy(&mut file, &mut io::stdout()).and_then(|_| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).host_context(|| "cannot show the log")
        }
        _ => Ok(()),
    }
}

/// Runs a shell in the box of a failed build. Returns boxbuild's exit code.
///
/// # Errors
/// If the build or its box is not there any more, or the machine cannot be started.
pub(crate) fn shell(args: &ShellArgs) -> Result<ExitCode> {
    let build = FailedBuilds::of_user()?.get(args.id.as_deref())?;
    let damaged = |problem| FailedBuildError::Damaged {
        id: build.record.id.clone(),
        problem,
    };
    if build.record.disk.is_none() {
        return Err(damaged(String::from(
            "it wrote into the box's own disk (--no-snapshot), so that there is none of its own",
        ))
        .into());
    }
    terminal::needed().map_err(|problem| PlanError::Option(format!("boxbuild shell {problem}")))?;
    let installed = build.record.installed(&build.folder).map_err(damaged)?;
    let _held = build.hold()?;
    let interrupt = Interrupt::install().host_context(|| "cannot take over signals")?;
    // The disk is as that engine left it.
    let engine = EngineChoice::named(&build.record.engine)
        .ok_or_else(|| damaged(format!("the engine {} is not known", build.record.engine)))?;
    let selected = boxbuild_engine::select(engine, build.record.info.arch)?;
    let memory_mib = args.box_memory.map(|memory| memory.bytes >> 20);
    let mut progress = Progress::new(false);
    for (what, path) in [
        ("description", &build.record.description),
        ("target folder", &build.record.target_dir),
    ] {
        if !Path::new(path).is_dir() {
            progress.note(&format!(
                "the {what} {} is gone; its place shows the kept logs",
                Path::new(path).display()
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
    Ok(ExitCode::of_run(reason.exit_code()))
}

/// Removes builds; all if none is named.
///
/// # Errors
/// If one cannot be removed.
pub(crate) fn prune(ids: &[String]) -> Result<String> {
    let builds = FailedBuilds::of_user()?;
    let known = builds.ids()?;
    // First of all: a name that is not right removes nothing.
    for id in ids.iter().filter(|id| !known.contains(id)) {
        builds.get(Some(id))?;
    }
    let chosen = if ids.is_empty() { &known } else { ids };
    let mut freed = 0;
    for id in chosen {
        freed += builds.remove(id)?;
    }
    Ok(format!(
        "{} failed build{} removed, {} freed\n",
        chosen.len(),
        if chosen.len() == 1 { "" } else { "s" },
        size(freed)
    ))
}
