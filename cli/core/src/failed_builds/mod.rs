//! Failed builds that are kept, to be looked at: their disks, their logs, and what is needed to
//! enter them.
//!
//! Layout: `FOLDER/ID/` holds `build.json` ([`Record`]), `result.log`, `console.log`, the disk's
//! changes as the engine left them, and hard links to the box's kernel, initrd and disk, so that
//! an update or removal of the box changes nothing. A build appears as a whole.

mod keep;
mod record;

use boxbuild_host::error::{Classify, ErrorClass};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access, getuid};

use boxbuild_boxes::store::Store;

pub use keep::Failed;
pub use record::{KeptShare, Record};

/// Builds that are kept at most: the oldest goes.
const MOST: usize = 5;
/// Bytes that they may take together: the oldest go. The newest is kept whatever its size.
const MOST_BYTES: u64 = 32 << 30;

/// Name of the folder in the box store.
const FOLDER: &str = ".builds";

/// Kept builds cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// There is none of that name.
    #[error("there is no kept build '{id}'{}", suggestion(.known, .nearest))]
    Unknown {
        /// As typed.
        id: String,
        /// Those there are.
        known: Vec<String>,
        /// The one that was probably meant.
        nearest: Option<String>,
    },
    /// There is none at all.
    #[error("no failed build is kept on this machine")]
    Nothing,
    /// It cannot be used.
    #[error("the kept build '{id}' cannot be used: {problem}; remove it with: boxbuild prune {id}")]
    Damaged {
        /// Its name.
        id: String,
        /// What is wrong.
        problem: String,
    },
    /// Somebody uses it.
    #[error("the kept build '{0}' is in use by 'boxbuild shell': leave that first")]
    InUse(String),
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Classify for KeptError {
    fn class(&self) -> ErrorClass {
        match self {
            KeptError::Unknown { .. } | KeptError::Nothing => ErrorClass::Usage,
            _ => ErrorClass::Host,
        }
    }
}

fn suggestion(known: &[String], nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean '{nearest}'?"),
        None => format!("; there are: {}", known.join(", ")),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeptError {
    let path = path.to_owned();
    move |source| KeptError::Io {
        action,
        path,
        source,
    }
}

/// A folder for a disk's changes, which can grow to the size of an image: the box store, or,
/// if that belongs to somebody else, the folder for large temporary files.
pub fn scratch(store: &Path) -> PathBuf {
    if access(store, AccessFlags::W_OK | AccessFlags::X_OK).is_ok() {
        return store.to_owned();
    }
    std::env::var_os("TMPDIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from("/var/tmp"))
}

/// The builds of a user that are kept.
#[derive(Debug, Clone)]
pub struct Builds {
    folder: PathBuf,
}

/// A kept build.
#[derive(Debug)]
pub struct Build {
    /// Its folder.
    pub folder: PathBuf,
    /// What is known of it.
    pub record: Record,
    /// Bytes that it takes, as far as they are not the box's.
    pub bytes: u64,
}

impl Builds {
    /// Those beside the boxes of `store`.
    pub fn of(store: &Path) -> Builds {
        let scratch = scratch(store);
        let folder = if scratch == store {
            store.join(FOLDER)
        } else {
            scratch.join(format!(".boxbuild-builds-{}", getuid()))
        };
        Builds { folder }
    }

    /// Those of the user's store.
    ///
    /// # Errors
    /// If there is no telling where that is.
    pub fn of_user() -> Result<Builds, boxbuild_boxes::store::StoreError> {
        Ok(Builds::of(Store::of_user()?.root()))
    }

    /// The folder, made if need be, which must be the user's own: what is in it is trusted.
    fn make(&self) -> Result<(), KeptError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(io_error("create the folder", &self.folder))?;
        self.check()
    }

    fn check(&self) -> Result<(), KeptError> {
        let metadata =
            fs::symlink_metadata(&self.folder).map_err(io_error("read", &self.folder))?;
        if metadata.is_dir() && metadata.uid() == getuid().as_raw() {
            return Ok(());
        }
        let error = io::Error::other("it belongs to somebody else");
        Err(io_error("use", &self.folder)(error))
    }

    /// Names of the builds, the oldest first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn ids(&self) -> Result<Vec<String>, KeptError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io_error("read", &self.folder))?,
        };
        self.check()?;
        let mut ids: Vec<(std::time::SystemTime, String)> = entries
            .filter_map(Result::ok)
            .filter_map(|entry| {
                let id = entry.file_name().into_string().ok()?;
                let record = fs::metadata(entry.path().join(record::NAME)).ok()?;
                (!id.starts_with('.')).then_some((record.modified().ok()?, id))
            })
            .collect();
        ids.sort();
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }

    /// A build by its name; the newest if there is none.
    ///
    /// # Errors
    /// If there is no such build, or it cannot be used.
    pub fn get(&self, id: Option<&str>) -> Result<Build, KeptError> {
        let ids = self.ids()?;
        let Some(newest) = ids.last() else {
            return Err(KeptError::Nothing);
        };
        let id = id.unwrap_or(newest);
        if !ids.iter().any(|known| known == id) {
            let nearest = ids
                .iter()
                .map(|known| (strsim::damerau_levenshtein(known, id), known))
                .min()
                .filter(|(distance, _)| *distance <= 2)
                .map(|(_, known)| known.clone());
            return Err(KeptError::Unknown {
                id: id.to_owned(),
                known: ids,
                nearest,
            });
        }
        let folder = self.folder.join(id);
        let record = Record::read(&folder).map_err(|problem| KeptError::Damaged {
            id: id.to_owned(),
            problem,
        })?;
        Ok(Build {
            bytes: bytes(&folder),
            folder,
            record,
        })
    }

    /// Removes a build. Returns the bytes that are free again.
    ///
    /// # Errors
    /// If somebody uses it, or it cannot be removed.
    pub fn remove(&self, id: &str) -> Result<u64, KeptError> {
        let folder = self.folder.join(id);
        let handle = File::open(&folder).map_err(io_error("open", &folder))?;
        let _alone = Flock::lock(handle, FlockArg::LockExclusiveNonblock)
            .map_err(|_| KeptError::InUse(id.to_owned()))?;
        let freed = bytes(&folder);
        // Out of sight at once: what is half removed is no build.
        let grave = self.folder.join(format!(".removed-{id}"));
        fs::rename(&folder, &grave).map_err(io_error("remove", &folder))?;
        fs::remove_dir_all(&grave).map_err(io_error("remove", &grave))?;
        Ok(freed)
    }

    /// Removes the oldest builds while there are too many. Returns their names.
    fn limit(&self) -> Result<Vec<String>, KeptError> {
        let mut ids = self.ids()?;
        let newest = ids.pop();
        let mut total = newest.map_or(0, |id| bytes(&self.folder.join(id)));
        let mut gone = Vec::new();
        for (number, id) in ids.into_iter().rev().enumerate() {
            total = total.saturating_add(bytes(&self.folder.join(&id)));
            // One that is in use stays for now.
            if (number + 1 >= MOST || total > MOST_BYTES) && self.remove(&id).is_ok() {
                gone.push(id);
            }
        }
        Ok(gone)
    }
}

impl Build {
    /// Holds the build while it is used.
    ///
    /// # Errors
    /// If it is being removed.
    pub fn hold(&self) -> Result<Flock<File>, KeptError> {
        let handle = File::open(&self.folder).map_err(io_error("open", &self.folder))?;
        Flock::lock(handle, FlockArg::LockSharedNonblock)
            .map_err(|(_, errno)| io_error("lock", &self.folder)(errno.into()))
    }
}

/// Bytes on the disk of the files in a folder that have no name elsewhere.
fn bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter_map(|entry| entry.metadata().ok())
        .filter(|metadata| metadata.is_file() && metadata.nlink() == 1)
        .map(|metadata| metadata.blocks() * 512)
        .sum()
}

#[cfg(test)]
mod tests;
