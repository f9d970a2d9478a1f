//! What is known of a build.

use std::path::Path;
use std::time::{Duration, SystemTime};

use boxbuild_host::secret;
use serde::{Deserialize, Serialize};

use crate::boot::{Boot, RunsAs};
use crate::plan::Plan;
use crate::run::{Outcome, Run};

/// Longest text of a record, in bytes.
const LONGEST_TEXT: usize = 4096;

/// Longest record, in bytes.
pub(super) const LONGEST: usize = 64 << 10;

/// Files and words of a record.
const MOST_FILES: usize = 64;
const MOST_WORDS: usize = 256;

/// A build. What a later version adds is passed over by this one; what an earlier one lacks is empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Version of the form of a record, [`Record::FORMAT`]; it grows where a key means something else.
    pub format: u32,
    /// Its number.
    pub id: u64,
    /// The version of boxbuild.
    pub version: String,
    /// The host.
    pub host: String,
    /// When it started, seconds since the epoch.
    pub started: u64,
    /// The description folder.
    pub description: String,
    /// The target folder.
    pub target_dir: String,
    /// Name of the box.
    #[serde(rename = "box")]
    pub box_name: String,
    /// Architecture of the box.
    pub arch: String,
    /// SHA-256 of the box's disk, as it was installed.
    pub box_sha256: String,
    /// Version of KIWI in the box, if it is known.
    pub kiwi: Option<String>,
    /// What ran it.
    pub engine: String,
    /// fast or compat; a container has none.
    pub boot: Option<String>,
    /// Guest memory in MiB; 0 for a container.
    pub memory_mib: u64,
    /// Virtual CPUs; 0 for a container.
    pub cpus: u32,
    /// The words for kiwi-ng, without secrets.
    pub args: Vec<String>,
    /// How it ended, once it has.
    pub end: Option<End>,
}

/// What became of a build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The results are in the target folder.
    Built,
    /// It ran, and failed.
    Failed,
    /// It could not be run to an end.
    Error,
    /// A later version knows.
    #[default]
    #[serde(other)]
    Unknown,
}

/// The end of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct End {
    /// What became of it.
    pub status: Status,
    /// boxbuild's exit code.
    pub exit_code: u8,
    /// From its start.
    pub seconds: f64,
    /// The word for the reason of a failure, as results have it (docs/json.md).
    pub reason: Option<String>,
    /// What happened, for people.
    pub message: Option<String>,
    /// The phase that failed.
    pub phase: Option<String>,
    /// How long each phase took.
    pub phases: Vec<(String, f64)>,
    /// The results; the first of very many.
    pub files: Vec<FileRecord>,
    /// Bytes of all results.
    pub bytes: u64,
    /// Highest resident memory of the engine in bytes, if it is known.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes of packages and lists, where there was a cache.
    pub packages: Option<PackageBytes>,
    /// The name under which the failed build was kept.
    pub kept: Option<String>,
    /// kiwi's log: its device, its inode and its last change in nanoseconds, by which it is known again in
    /// the target folder.
    pub log: Option<(u64, u64, i64)>,
}

/// Where packages and lists of a build came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PackageBytes {
    /// From the cache.
    pub from_cache_bytes: u64,
    /// From their servers.
    pub from_network_bytes: u64,
}

/// A result.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FileRecord {
    /// Its path.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256; null for a folder, and for what is too long to be hashed.
    pub sha256: Option<String>,
}

impl Record {
    /// The `format` this program writes.
    pub const FORMAT: u32 = 1;

    /// A build by `plan` with `engine` that starts now.
    pub(super) fn new(plan: &Plan, engine: &str) -> Record {
        let info = &plan.installed.info;
        let words = secret::redact_words(&plan.kiwi_args);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let container = plan.runs_as.is_container();
        Record {
            format: Record::FORMAT,
            id: 0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            host: host(),
            started: now.map_or(0, |time| time.as_secs()),
            description: path(&plan.description),
            target_dir: path(&plan.target_dir),
            box_name: info.name.clone(),
            arch: info.arch.name().to_owned(),
            box_sha256: info.disk.sha256.clone(),
            kiwi: plan.kiwi_version.clone().or_else(|| info.kiwi.clone()),
            engine: engine.to_owned(),
            boot: boot(plan),
            memory_mib: if container { 0 } else { plan.memory_mib },
            cpus: if container { 0 } else { plan.cpus },
            args: words.into_iter().take(MOST_WORDS).map(short).collect(),
            end: None,
        }
    }

    /// Takes what has changed: another attempt may boot the box another way.
    pub(super) fn update(&mut self, plan: &Plan) {
        self.boot = boot(plan);
    }

    /// When it started.
    pub fn time(&self) -> SystemTime {
        // A record that was tampered with says nothing of years.
        let most = Duration::from_secs(1 << 36);
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.started).min(most)
    }

    /// The record as text, within the bounds.
    pub(super) fn text(&self) -> Result<Vec<u8>, serde_json::Error> {
        let text = serde_json::to_vec(self)?;
        if text.len() <= LONGEST {
            return Ok(text);
        }
        let mut less = self.clone();
        less.args.clear();
        if let Some(end) = &mut less.end {
            end.files.truncate(1);
            end.phases.clear();
        }
        serde_json::to_vec(&less)
    }

    /// Reads a record. What a later version has written is read as far as it means the same.
    pub(super) fn read(text: &[u8]) -> Result<Record, String> {
        let record: Record = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        if record.format > Record::FORMAT {
            return Err(format!(
                "it was written by a newer boxbuild ({})",
                boxbuild_host::text::shown(&record.version)
            ));
        }
        Ok(record)
    }
}

impl End {
    /// The end of `run`, with boxbuild's exit code.
    pub fn of(run: &Run, exit_code: u8) -> End {
        let mut end = End {
            exit_code,
            phases: run
                .phases
                .iter()
                .map(|(phase, time)| (phase.name().to_owned(), time.as_secs_f64()))
                .collect(),
            peak_memory_bytes: run.peak_memory,
            packages: run.packages.map(|packages| PackageBytes {
                from_cache_bytes: packages.from_cache,
                from_network_bytes: packages.from_network,
            }),
            log: run.log.as_ref().and_then(identity),
            ..End::default()
        };
        match &run.outcome {
            Outcome::Built(files) => {
                end.status = Status::Built;
                end.bytes = files.iter().map(|file| file.bytes).sum();
                let mut files: Vec<&_> = files.iter().collect();
                files.sort_by_key(|file| std::cmp::Reverse(file.bytes));
                let record = |file: &&crate::output_dir::ResultFile| FileRecord {
                    path: path(&file.path),
                    bytes: file.bytes,
                    sha256: file.sha256.clone(),
                };
                end.files = files.iter().take(MOST_FILES).map(record).collect();
            }
            Outcome::Failed(failure) => {
                end.status = Status::Failed;
                end.reason = Some(failure.reason.word().to_owned());
                end.message = Some(short(
                    secret::redact(&failure.reason.to_string()).into_owned(),
                ));
                end.phase = failure.phase.map(|phase| phase.name().to_owned());
                end.kept = failure.kept.as_ref().map(|kept| kept.id.clone());
            }
        }
        end
    }

    /// The end of a build that could not be run to its end: `message` says why.
    pub fn error(message: &str, exit_code: u8) -> End {
        End {
            status: Status::Error,
            exit_code,
            message: Some(short(secret::redact(message).into_owned())),
            ..End::default()
        }
    }

    /// The largest result: the image.
    pub fn image(&self) -> Option<&FileRecord> {
        self.files.first()
    }
}

fn boot(plan: &Plan) -> Option<String> {
    match plan.runs_as {
        RunsAs::Machine(Boot::Fast) => Some(String::from("fast")),
        RunsAs::Machine(Boot::Compat) => Some(String::from("compat")),
        RunsAs::Container(_) => None,
    }
}

/// What a log is known again by.
pub(super) fn identity(file: &std::fs::File) -> Option<(u64, u64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().ok()?;
    let time = metadata.mtime().saturating_mul(1_000_000_000);
    let time = time.saturating_add(metadata.mtime_nsec());
    Some((metadata.dev(), metadata.ino(), time))
}

fn host() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    short(name.to_string_lossy().into_owned())
}

fn path(path: &Path) -> String {
    short(path.to_string_lossy().into_owned())
}

fn short(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}
