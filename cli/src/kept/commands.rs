//! `boxbuild builds`, `logs`, `shell` and `prune`.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};

use super::{Build, Builds, KeptError};
use crate::args::{LogsArgs, ShellArgs};
use crate::build::shell::{self, ShellOptions};
use crate::engine;
use crate::interrupt::Interrupt;
use crate::progress::{Progress, date, size};
use crate::terminal;

/// Lists the builds that are kept, the oldest first.
///
/// # Errors
/// If they cannot be read.
pub fn builds(json: bool) -> Result<String> {
    let builds = Builds::of_user()?;
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
        let text = serde_json::to_string_pretty(&rows).context("cannot write JSON")?;
        return Ok(text + "\n");
    }
    if text.is_empty() {
        eprintln!("No failed build is kept.");
    }
    Ok(text)
}

fn line(build: &Build) -> String {
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

fn row(build: &Build) -> serde_json::Value {
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
pub fn logs(args: &LogsArgs) -> Result<()> {
    let build = Builds::of_user()?.get(args.id.as_deref())?;
    let log = build.folder.join("result.log");
    let path = if args.console || !log.exists() {
        if !args.console {
            eprintln!("kiwi wrote no log; this is the box's console:");
        }
        build.folder.join("console.log")
    } else {
        log
    };
    let mut file =
        File::open(&path).with_context(|| format!("cannot open the log {}", path.display()))?;
    match io::copy(&mut file, &mut io::stdout()).and_then(|_| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot show the log")
        }
        _ => Ok(()),
    }
}

/// Runs a shell in the box of a failed build. Returns boxbuild's exit code.
///
/// # Errors
/// If the build or its box is not there any more, or the machine cannot be started.
pub fn shell(args: &ShellArgs) -> Result<u8> {
    let build = Builds::of_user()?.get(args.id.as_deref())?;
    let damaged = |problem| KeptError::Damaged {
        id: build.record.id.clone(),
        problem,
    };
    if build.record.disk.is_none() {
        return Err(damaged(String::from(
            "it wrote into the box's own disk (--no-snapshot), so that there is none of its own",
        ))
        .into());
    }
    terminal::needed()
        .map_err(|problem| crate::plan::PlanError::Option(format!("boxbuild shell {problem}")))?;
    let installed = build.record.installed(&build.folder).map_err(damaged)?;
    let _held = build.hold()?;
    let interrupt = Interrupt::install().context("cannot take over signals")?;
    // The disk is as that engine left it.
    let selected = engine::select(&build.record.engine, build.record.info.arch)?;
    let options = ShellOptions {
        memory_mib: args.box_memory.map(|memory| memory.bytes >> 20),
    };
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
        &options,
        &interrupt,
        &mut progress,
    )?;
    let Some((reason, lines)) = failed else {
        return Ok(0);
    };
    for line in lines {
        progress.note(&format!("  | {line}"));
    }
    progress.note(&format!("boxbuild: {reason}"));
    Ok(reason.exit_code())
}

/// Removes builds; all if none is named.
///
/// # Errors
/// If one cannot be removed.
pub fn prune(ids: &[String]) -> Result<String> {
    let builds = Builds::of_user()?;
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
