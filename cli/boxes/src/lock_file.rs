//! `boxbuild.lock`: the hashes of boxes, so that a build can insist on them.

use std::io;
use std::path::{Path, PathBuf};

use boxbuild_host::arch::Arch;
use boxbuild_host::error::{Classify, ErrorClass, IoError};
use boxbuild_host::input;
use serde::{Deserialize, Serialize};

use crate::fetch::{Algorithm, Checksum};
use crate::store::{InstalledBox, PublishedFile};

/// Default name of the lock file, in the working folder.
pub const FILE_NAME: &str = "boxbuild.lock";

/// The content of a lock file, in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    boxes: Vec<LockedBox>,
}

/// A box and its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockedBox {
    /// Its name in the store.
    name: String,
    arch: Arch,
    origin: String,
    /// The archive with the kernel and the disk as they are published; for a box that was made on
    /// this host, kernel, initial ramdisk and disk, without addresses.
    parts: Vec<PublishedFile>,
}

/// A lock file that was read.
#[derive(Debug, Clone)]
pub struct Locked {
    path: PathBuf,
    boxes: Vec<LockedBox>,
}

/// A lock file cannot be used, or a box is not the one in it.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// There is no lock file.
    #[error("there is no {0}: write one with 'boxbuild box lock NAME'")]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file is not a lock file.
    #[error("{path} is not a lock file of this boxbuild: {problem}")]
    Invalid {
        /// Path of the lock file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The lock file does not have the box.
    #[error("{path} does not have the box '{name}': add it with 'boxbuild box lock {name}'")]
    Unlocked {
        /// Path of the lock file.
        path: PathBuf,
        /// Name of the box.
        name: String,
    },
    /// Builds have written into the box's disk.
    #[error(
        "the box '{0}' was changed by builds with --no-snapshot, which no checksum covers: undo that \
         with 'boxbuild box reset {0}'"
    )]
    Changed(String),
    /// The box has other hashes.
    #[error(
        "the box '{name}' {place} is not the one in {path} ({found} instead of {wanted}): take it \
         with 'boxbuild box lock {name}', or build without --locked"
    )]
    Differs {
        /// Path of the lock file.
        path: PathBuf,
        /// Name of the box.
        name: String,
        /// Where the box is.
        place: &'static str,
        /// Its hash.
        found: String,
        /// As in the file.
        wanted: String,
    },
}

impl Classify for LockError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Usage
    }
}

impl Locked {
    /// Reads a lock file.
    ///
    /// # Errors
    /// Fails if it is missing, cannot be read, or is not a lock file.
    pub fn read(path: &Path) -> Result<Locked, LockError> {
        let text = match input::read_text(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LockError::Missing(path.to_owned()));
            }
            Err(error) => return Err(IoError::on("read", path)(error).into()),
        };
        let invalid = |problem: String| LockError::Invalid {
            path: path.to_owned(),
            problem,
        };
        let file: File = serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        if file.format != 1 {
            return Err(invalid(format!("it has format {}", file.format)));
        }
        Ok(Locked {
            path: path.to_owned(),
            boxes: file.boxes,
        })
    }

    /// Adds boxes to a lock file, or replaces them in it. The file is replaced atomically.
    ///
    /// # Errors
    /// Fails if the file is something else than a lock file, or cannot be written, or if builds have
    /// written into the disk of a box.
    pub fn update(path: &Path, installed: &[InstalledBox]) -> Result<(), LockError> {
        installed.iter().try_for_each(unchanged)?;
        let mut boxes = match Locked::read(path) {
            Ok(locked) => locked.boxes,
            Err(LockError::Missing(_)) => Vec::new(),
            Err(error) => return Err(error),
        };
        for installed in installed {
            boxes.retain(|locked| locked.name != installed.info.name);
            boxes.push(LockedBox {
                name: installed.info.name.clone(),
                arch: installed.info.arch,
                origin: installed.info.origin.clone(),
                parts: parts(installed),
            });
        }
        boxes.sort_by(|a, b| a.name.cmp(&b.name));
        let write = || -> io::Result<()> {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
            serde_json::to_writer_pretty(&mut file, &File { format: 1, boxes })?;
            io::Write::write_all(&mut file, b"\n")?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(IoError::on("write", path))?;
        Ok(())
    }

    fn find(&self, name: &str) -> Result<&LockedBox, LockError> {
        self.boxes
            .iter()
            .find(|locked| locked.name == name)
            .ok_or_else(|| LockError::Unlocked {
                path: self.path.clone(),
                name: name.to_owned(),
            })
    }

    /// Checks that an installed box is the one in the lock file.
    ///
    /// # Errors
    /// Fails if the lock file does not have the box, or has it with other hashes, or if builds have
    /// written into the box's disk.
    pub fn check(&self, installed: &InstalledBox) -> Result<(), LockError> {
        let name = &installed.info.name;
        let locked = self.find(name)?;
        unchanged(installed)?;
        let own = parts(installed);
        if own.len() != locked.parts.len() {
            return Err(self.differs(name, "on this host", "", &locked.origin));
        }
        match own
            .iter()
            .zip(&locked.parts)
            .find(|(own, locked)| own.sha256 != locked.sha256)
        {
            None => Ok(()),
            Some((own, locked)) => {
                Err(self.differs(name, "on this host", &own.sha256, &locked.sha256))
            }
        }
    }

    /// Checks that the box which is published now is the one in the lock file.
    pub(crate) fn check_published(
        &self,
        name: &str,
        checksums: &[Checksum; 2],
    ) -> Result<(), LockError> {
        let locked = self.find(name)?;
        for (part, checksum) in locked.parts.iter().zip(checksums) {
            let wanted = match checksum.algorithm {
                Algorithm::Sha256 => Some(&part.sha256),
                Algorithm::Sha512 => part.sha512.as_ref(),
            };
            if wanted != Some(&checksum.hex) {
                let wanted = wanted.unwrap_or(&part.sha256);
                return Err(self.differs(name, "that is published now", &checksum.hex, wanted));
            }
        }
        Ok(())
    }

    fn differs(&self, name: &str, place: &'static str, found: &str, wanted: &str) -> LockError {
        LockError::Differs {
            path: self.path.clone(),
            name: name.to_owned(),
            place,
            found: found.to_owned(),
            wanted: wanted.to_owned(),
        }
    }
}

/// Fails if builds have written into the disk of `installed`.
fn unchanged(installed: &InstalledBox) -> Result<(), LockError> {
    match installed.changed {
        Some(_) => Err(LockError::Changed(installed.info.name.clone())),
        None => Ok(()),
    }
}

/// The files that lock a box.
fn parts(installed: &InstalledBox) -> Vec<PublishedFile> {
    let info = &installed.info;
    match &info.published {
        Some(published) => vec![published.kernel.clone(), published.disk.clone()],
        None => [&info.kernel, &info.initrd, &info.disk]
            .into_iter()
            .map(|file| PublishedFile {
                url: String::new(),
                size: file.size,
                sha256: file.sha256.clone(),
                sha512: None,
            })
            .collect(),
    }
}
