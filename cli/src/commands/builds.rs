//! `boxbuild builds`: the builds of the history, and those that are kept.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use boxbuild_core::failed_builds::{FailedBuild, FailedBuildError, FailedBuilds};
use boxbuild_core::history::{End, History, Listed, PackageBytes, Record, State, Status};
use boxbuild_host::text::{shown, shown_path};
use boxbuild_host::units::{date, seconds, size};
use serde::Serialize;
use serde_json::{Map, Value};

use super::failed_builds;
use crate::args::BuildsArgs;
use crate::exit_code::{ExitCode, Result};
use crate::output::json::{print_document, value};
use crate::output::print::{print_line, print_text};

/// Characters of a hash that are shown to people.
const HASH: usize = 12;

/// A build of the history, of the kept ones, or of both.
#[derive(Debug)]
struct Found {
    /// In the history.
    listed: Option<Listed>,
    /// What is kept of it, by its name.
    kept: Option<(String, Result<FailedBuild, FailedBuildError>)>,
}

/// How a build was begun, for programs.
#[derive(Debug, Serialize)]
struct Begun<'a> {
    started: u64,
    version: &'a str,
    host: &'a str,
    description: &'a str,
    target_dir: &'a str,
    #[serde(rename = "box")]
    box_name: &'a str,
    arch: &'a str,
    box_sha256: &'a str,
    kiwi: Option<&'a str>,
    engine: &'a str,
    boot: Option<&'a str>,
    memory_mib: u64,
    cpus: u32,
    args: &'a [String],
}

/// How it ended, for programs.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    seconds: f64,
    exit_code: u8,
    /// For people.
    reason: Option<&'a str>,
    /// For programs.
    reason_word: Option<&'a str>,
    phase: Option<&'a str>,
    phases: Vec<PhaseTime<'a>>,
    files: &'a [boxbuild_core::history::FileRecord],
    result_bytes: u64,
    peak_memory_bytes: Option<u64>,
    packages: Option<PackageBytes>,
}

#[derive(Debug, Serialize)]
struct PhaseTime<'a> {
    phase: &'a str,
    seconds: f64,
}

/// Lists the builds, the oldest first.
///
/// # Errors
/// Fails if the folders of the history or of kept builds cannot be read.
pub(super) fn list(args: &BuildsArgs) -> Result<ExitCode> {
    let mut found = all()?;
    found.retain(|build| build.is_wanted(args));
    if let Some(last) = args.last {
        found.drain(..found.len().saturating_sub(last));
    }
    if args.json {
        let rows: Result<Vec<Value>> = found.iter().map(Found::row).collect();
        print_document(&rows?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        print_line("There is no such build.");
    }
    let width = found.iter().map(|build| build.id().chars().count()).max();
    let line = |build: &Found| build.line(width.unwrap_or(0));
    print_text(&found.iter().map(line).collect::<String>())?;
    Ok(ExitCode::SUCCESS)
}

/// Returns all builds, the oldest first. Kept ones that the history does not have come first.
fn all() -> Result<Vec<Found>> {
    let kept_builds = FailedBuilds::of_user()?;
    let mut kept: Vec<(String, _)> = kept_builds
        .ids()?
        .into_iter()
        .map(|id| {
            let build = kept_builds.get(Some(&id));
            (id, build)
        })
        .collect();
    let mut found = Vec::new();
    // A name may be given again: the newest build has it.
    for listed in History::of_user()?.list()?.into_iter().rev() {
        let name = listed.record.as_ref().ok().and_then(|record| {
            let name = record.end.as_ref()?.kept.as_ref()?;
            let is_it = |(id, build): &(String, std::result::Result<FailedBuild, _>)| {
                id == name && build.as_ref().is_ok_and(|build| is_of(build, record))
            };
            kept.iter().position(is_it)
        });
        found.push(Found {
            kept: name.map(|at| kept.remove(at)),
            listed: Some(listed),
        });
    }
    let kept = kept.into_iter().rev().map(|kept| Found {
        listed: None,
        kept: Some(kept),
    });
    found.extend(kept);
    found.reverse();
    Ok(found)
}

/// Whether what is kept is of this build, and not of another one that had its name.
pub(super) fn is_of(kept: &FailedBuild, record: &Record) -> bool {
    let length = record.end.as_ref().map_or(0.0, |end| end.seconds);
    let end = record.started.saturating_add(length as u64 + 60);
    (record.started..=end).contains(&kept.record.failed)
}

impl Found {
    fn record(&self) -> Option<&Record> {
        self.listed.as_ref()?.record.as_ref().ok()
    }

    fn end(&self) -> Option<&End> {
        self.record()?.end.as_ref()
    }

    fn id(&self) -> String {
        match (&self.kept, &self.listed) {
            (Some((id, _)), _) => id.clone(),
            (None, Some(listed)) => listed.id.to_string(),
            (None, None) => String::new(),
        }
    }

    /// A word for what it does, or what became of it.
    fn state(&self) -> &'static str {
        match (&self.listed, self.end()) {
            (Some(listed), _) if listed.record.is_err() => "unknown",
            (Some(listed), _) if listed.state == State::Running => "running",
            (Some(listed), _) if listed.state == State::Lost => "killed",
            (_, Some(end)) => match end.status {
                Status::Built => "built",
                Status::Failed => "failed",
                Status::Error => "error",
                Status::Unknown => "unknown",
            },
            _ => "failed",
        }
    }

    fn is_wanted(&self, args: &BuildsArgs) -> bool {
        let state = self.state();
        let kept = self
            .kept
            .as_ref()
            .and_then(|(_, build)| build.as_ref().ok());
        let description = match (self.record(), kept) {
            (Some(record), _) => Some(PathBuf::from(&record.description)),
            (None, Some(kept)) => Some(PathBuf::from(&kept.record.description)),
            (None, None) => None,
        };
        let box_name = match (self.record(), kept) {
            (Some(record), _) => Some(record.box_name.as_str()),
            (None, kept) => kept.map(|kept| kept.record.info.name.as_str()),
        };
        let wanted = args.description.as_deref().map(whole);
        (!args.failed || ["failed", "error", "killed"].contains(&state))
            && (!args.running || state == "running")
            && wanted.is_none_or(|wanted| description.is_some_and(|path| whole(&path) == wanted))
            && args
                .box_name
                .as_deref()
                .is_none_or(|wanted| box_name == Some(wanted))
    }

    /// The build for programs. What is kept of it and its record have keys in common, with the same
    /// meaning.
    fn row(&self) -> Result<Value> {
        let mut row = Map::new();
        match &self.kept {
            Some((_, Ok(build))) => add(&mut row, &failed_builds::row(build))?,
            Some((_, Err(error))) => {
                row.insert(String::from("problem"), error.to_string().into());
            }
            None => {}
        }
        if let Some(Err(problem)) = self.listed.as_ref().map(|listed| &listed.record) {
            row.insert(String::from("problem"), problem.clone().into());
        }
        if let Some(record) = self.record() {
            add(&mut row, &Begun::of(record))?;
        }
        if let Some(end) = self.end() {
            add(&mut row, &Ended::of(end))?;
        }
        let number = self.listed.as_ref().map(|listed| listed.id);
        row.insert(String::from("id"), self.id().into());
        row.insert(String::from("build"), number.into());
        row.insert(String::from("state"), self.state().into());
        Ok(Value::Object(row))
    }

    /// A line for people.
    fn line(&self, width: usize) -> String {
        let id = self.id();
        let id = shown(&id);
        let Some(record) = self.record() else {
            return match (&self.kept, &self.listed) {
                (Some((_, Ok(kept))), _) => format!("{id:<width$}  {}", failed_builds::line(kept)),
                (Some((_, Err(error))), _) => format!("{id:<width$}  {error}\n"),
                (None, Some(listed)) => {
                    let problem = listed.record.as_ref().err().cloned().unwrap_or_default();
                    format!("{id:<width$}  cannot be read: {}\n", shown(&problem))
                }
                (None, None) => String::new(),
            };
        };
        let end = self.end();
        let time = match (end, self.state()) {
            (Some(end), _) => time_of(end.seconds),
            (None, "running") => {
                let since = SystemTime::now().duration_since(record.time());
                seconds(since.unwrap_or_default())
            }
            _ => String::from("-"),
        };
        let image = end.and_then(End::image);
        let hash = image.and_then(|image| image.sha256.as_deref());
        let bytes = end.filter(|end| end.status == Status::Built);
        let mut line = format!(
            "{id:<width$}  {}  {time:>12}  {:<7}  {:>10}  {:<HASH$}  {} ({}): {}",
            date(record.time()),
            self.state(),
            bytes.map_or_else(|| String::from("-"), |end| size(end.bytes)),
            hash.and_then(|hash| hash.get(..HASH)).unwrap_or("-"),
            shown(&record.box_name),
            shown(&record.engine),
            shown_path(Path::new(&record.description)),
        );
        if let Some(message) = end.and_then(|end| end.message.as_deref()) {
            let first = message.lines().next().unwrap_or_default();
            line += &format!(": {}", shown(first));
        }
        if let Some((_, Ok(kept))) = &self.kept {
            line += &format!("; kept ({})", size(kept.bytes));
            if kept.record.checkpoint.is_some() {
                line += ", can be resumed";
            }
        }
        line + "\n"
    }
}

impl<'a> Begun<'a> {
    fn of(record: &'a Record) -> Begun<'a> {
        Begun {
            started: record.started,
            version: &record.version,
            host: &record.host,
            description: &record.description,
            target_dir: &record.target_dir,
            box_name: &record.box_name,
            arch: &record.arch,
            box_sha256: &record.box_sha256,
            kiwi: record.kiwi.as_deref(),
            engine: &record.engine,
            boot: record.boot.as_deref(),
            memory_mib: record.memory_mib,
            cpus: record.cpus,
            args: &record.args,
        }
    }
}

impl<'a> Ended<'a> {
    fn of(end: &'a End) -> Ended<'a> {
        let phase = |(phase, seconds): &'a (String, f64)| PhaseTime {
            phase,
            seconds: *seconds,
        };
        Ended {
            seconds: end.seconds,
            exit_code: end.exit_code,
            reason: end.message.as_deref(),
            reason_word: end.reason.as_deref(),
            phase: end.phase.as_deref(),
            phases: end.phases.iter().map(phase).collect(),
            files: &end.files,
            result_bytes: end.bytes,
            peak_memory_bytes: end.peak_memory_bytes,
            packages: end.packages,
        }
    }
}

/// Adds the keys of `part` to `row`.
fn add(row: &mut Map<String, Value>, part: &impl Serialize) -> Result<()> {
    if let Value::Object(keys) = value(part)? {
        row.extend(keys);
    }
    Ok(())
}

/// The time that a record has; one that was tampered with has none.
fn time_of(time: f64) -> String {
    Duration::try_from_secs_f64(time).map_or_else(|_| String::from("-"), seconds)
}

/// A path by which folders can be compared, whether they are there or not.
fn whole(path: &Path) -> PathBuf {
    std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}
