//! What is known of a kept build.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Deserializer, Serialize};

use super::checkpoint::{self, Checkpoint};
use crate::boot::Boot;
use crate::held_folders::{HeldFolders, is_still};
use crate::plan::Plan;
use boxbuild_boxes::store::{BoxFile, BoxInfo, InstalledBox};
use boxbuild_engine::Policy;
use boxbuild_host::secret;
use boxbuild_host::untrusted::{Dir, Replacement};

/// Name of the file with the record.
pub(super) const NAME: &str = "build.json";

/// Longest record that is read, in bytes.
const LONGEST: u64 = 32 << 20;

/// `build.json`. Paths may have any bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of this description, [`Record::FORMAT`].
    pub format: u32,
    /// Name of the build.
    pub id: String,
    /// When it failed, seconds since the epoch.
    pub failed: u64,
    /// The reason, for the user.
    pub reason: String,
    /// boxbuild's exit code.
    pub exit_code: u8,
    /// The engine that ran it.
    pub engine: String,
    /// The box.
    pub info: BoxInfo,
    /// The folder of the box's files, if they are not in the build's own.
    pub box_folder: Option<OsString>,
    /// Length of the box's disk image, and time of its last change in nanoseconds: what was
    /// written over it fits no other.
    pub base: (u64, i128),
    /// Bytes of the disk's changes; `None` if the disk could not be kept.
    pub disk: Option<u64>,
    /// The box was brought up by boxbuild's own init.
    pub fast: bool,
    /// `console=` of the guest.
    pub console: String,
    /// Guest memory in MiB.
    pub memory_mib: u64,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Level of the emulated processor.
    #[serde(default)]
    pub cpu_level: Option<String>,
    /// What it reached over its network, if it had one; without proxies on the host.
    #[serde(deserialize_with = "network")]
    pub network: Option<Policy>,
    /// The description folder.
    pub description: OsString,
    /// The target folder.
    pub target_dir: OsString,
    /// Other folders of the host.
    pub shares: Vec<KeptShare>,
    /// What was written over the box's disk up to a checkpoint is in a folder of its own, below the rest.
    #[serde(default)]
    pub layered: bool,
    /// What it takes to go on after kiwi's `prepare`.
    #[serde(default)]
    pub checkpoint: Option<Checkpoint>,
    /// Why there is no such thing.
    #[serde(default)]
    pub no_checkpoint: Option<String>,
}

/// Reads [`Record::network`]; older records say only whether there was one.
fn network<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Policy>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Kept {
        Whether(bool),
        What(Option<Policy>),
    }
    Ok(match Kept::deserialize(from)? {
        Kept::Whether(there) => there.then(Policy::default),
        Kept::What(policy) => policy,
    })
}

/// A folder of the host that a build saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptShare {
    /// virtio-fs tag.
    pub tag: String,
    /// The folder, on the host and in the box.
    pub path: OsString,
    /// Where that led before the box ran, if it was noted.
    #[serde(default)]
    pub real: Option<OsString>,
}

impl KeptShare {
    /// The folder, if its path still leads to where it led.
    pub fn folder(&self) -> Option<&Path> {
        let path = Path::new(&self.path);
        let real = self.real.as_ref().map_or(path, Path::new);
        Some(path).filter(|path| is_still(path, real))
    }
}

impl Record {
    /// The `format` this program writes and reads.
    pub const FORMAT: u32 = 1;

    /// Describes a build by `plan` that failed now.
    pub(super) fn new(plan: &Plan, folders: &HeldFolders, engine: &str, reason: &str) -> Record {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let installed = &plan.installed;
        Record {
            format: Record::FORMAT,
            id: String::new(),
            failed: now.map_or(0, |time| time.as_secs()),
            reason: secret::redact(reason).into_owned(),
            exit_code: 1,
            engine: engine.to_owned(),
            info: installed.info.redacted(),
            box_folder: Some(installed.dir.clone().into()),
            base: mark(&installed.disk()).unwrap_or_default(),
            disk: None,
            fast: plan.boot() == Some(Boot::Fast),
            console: plan.console.clone(),
            memory_mib: plan.memory_mib,
            cpus: plan.cpus,
            cpu_level: Some(plan.cpu_level.name().to_owned()),
            network: plan.policy().map(|policy| Policy {
                services: Vec::new(),
                ..policy
            }),
            description: plan.description.clone().into(),
            target_dir: plan.target_dir.clone().into(),
            shares: plan
                .host_paths
                .folders
                .iter()
                .map(|share| KeptShare {
                    tag: share.tag.to_string(),
                    path: share.root.clone().into(),
                    real: folders.real(&share.root),
                })
                .collect(),
            layered: false,
            checkpoint: None,
            no_checkpoint: None,
        }
    }

    /// The folders with what was written over the box's disk, the lowest first, for a build in `folder`.
    pub fn layers(&self, folder: &Path) -> Vec<PathBuf> {
        let below = self.layered.then(|| folder.join(checkpoint::FOLDER));
        below.into_iter().chain([folder.to_owned()]).collect()
    }

    /// The description, if it is still where it was, through no link that has appeared since.
    pub fn description(&self) -> Option<&Path> {
        let path = Path::new(&self.description);
        Some(path).filter(|path| is_still(path, path))
    }

    /// The target folder, in the same way.
    pub fn target_dir(&self) -> Option<&Path> {
        let path = Path::new(&self.target_dir);
        Some(path).filter(|path| is_still(path, path))
    }

    /// When it failed.
    pub fn time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.failed)
    }

    /// Writes it into `folder`; without its checkpoint if it is too long for [`read`](Self::read) with it.
    pub(super) fn write(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        if text.len() as u64 > LONGEST && self.checkpoint.take().is_some() {
            let reason = "the list of what its description consists of is too long to be kept";
            self.no_checkpoint = Some(reason.to_owned());
            text = serde_json::to_vec_pretty(self)?;
        }
        Replacement::write(&Dir::open(folder)?, OsStr::new(NAME), &text, 0o600)
    }

    /// What is in `folder`, or what is wrong with it.
    pub(super) fn read(folder: &Path) -> Result<Record, String> {
        let mut text = Vec::new();
        Dir::open(folder)
            .and_then(|folder| folder.file(OsStr::new(NAME)))
            .and_then(|file| file.take(LONGEST).read_to_end(&mut text))
            .map_err(|error| error.to_string())?;
        let record: Record = serde_json::from_slice(&text)
            .map_err(|error| format!("{NAME}, perhaps of another version of boxbuild: {error}"))?;
        let outside = |file: &&BoxFile| file.name.contains('/') || file.name.starts_with('.');
        if record.format != Record::FORMAT {
            return Err(format!("{NAME} has format {}", record.format));
        }
        if let Some(file) = record.info.files().into_iter().find(outside) {
            return Err(format!("{NAME} names the file '{}'", file.name));
        }
        Ok(record)
    }

    /// The box that the build in `folder` ran in, if it is still the same.
    ///
    /// # Errors
    /// Fails, with a message for the user, if the box has changed or is gone.
    pub fn installed(&self, folder: &Path) -> Result<InstalledBox, String> {
        let dir = match &self.box_folder {
            Some(dir) => PathBuf::from(dir),
            None => folder.to_owned(),
        };
        let installed = InstalledBox::prospective(dir, self.info.clone(), Vec::new());
        let name = &self.info.name;
        for file in [&self.info.kernel, &self.info.initrd] {
            let path = installed.path(file);
            if !fs::metadata(&path).is_ok_and(|metadata| metadata.len() == file.size) {
                return Err(format!(
                    "the box {name} was updated or removed since ({} is missing or different)",
                    path.display()
                ));
            }
        }
        if mark(&self.disk_of(&installed)) == Some(self.base) {
            Ok(installed)
        } else if installed.disk().exists() {
            Err(format!(
                "the disk of the box {name} was changed since (by a build with --no-snapshot, or by \
                 'boxbuild box reset'?), and what this build wrote only fits its old contents"
            ))
        } else {
            Err(format!("the box {name} was updated or removed since"))
        }
    }

    /// The disk of `installed` that this build wrote its changes over: the box's own, or the copy that
    /// builds with `--no-snapshot` write into.
    pub fn disk_of(&self, installed: &InstalledBox) -> PathBuf {
        let written = installed.written_disk();
        if mark(&written) == Some(self.base) {
            written
        } else {
            installed.path(&self.info.disk)
        }
    }
}

/// Length and time of the last change of a file.
fn mark(path: &Path) -> Option<(u64, i128)> {
    let metadata = fs::metadata(path).ok()?;
    let time = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Some((metadata.len(), time))
}
