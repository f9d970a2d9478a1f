//! The failed builds of a user.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use boxbuild_boxes::store::{Store, StoreError};
use boxbuild_host::error::IoError;
use boxbuild_host::nearest::{TYPO, nearest};
use boxbuild_host::stop::StopCheck;
use boxbuild_host::untrusted::{Dir, remove_tree};
use boxbuild_protocol::paths::LOG_NAME;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::getuid;

use super::checkpoint;
use super::error::FailedBuildError;
use super::record::{self, Record};
use super::scratch::scratch;

/// Builds that are kept at most: the oldest goes.
pub(super) const MOST: usize = 5;

/// Bytes that they may take together: the oldest go. The newest is kept whatever its size.
pub(super) const MOST_BYTES: u64 = 32 << 30;

/// Name of the folder in the box store.
pub(super) const FOLDER: &str = ".builds";

/// Beginning of the names of builds that are being removed.
const REMOVED: &str = ".removed-";

/// Name of the file with the end of the console, in a build's folder.
pub(super) const CONSOLE_NAME: &str = "console.log";

/// The builds of a user that are kept.
#[derive(Debug, Clone)]
pub struct FailedBuilds {
    pub(super) folder: PathBuf,
}

/// A kept build.
#[derive(Debug)]
pub struct FailedBuild {
    /// The folder with its record, logs and disk.
    pub folder: PathBuf,
    /// What is known of it.
    pub record: Record,
    /// Bytes that it takes, as far as they are not the box's.
    pub bytes: u64,
}

impl FailedBuilds {
    /// Those beside the boxes of `store`.
    pub fn of(store: &Path) -> FailedBuilds {
        let scratch = scratch(store);
        let folder = if scratch == store {
            store.join(FOLDER)
        } else {
            scratch.join(format!(".boxbuild-builds-{}", getuid()))
        };
        FailedBuilds { folder }
    }

    /// Those of the user's store.
    ///
    /// # Errors
    /// Fails if there is no telling where that is.
    pub fn of_user() -> Result<FailedBuilds, StoreError> {
        Ok(FailedBuilds::of(Store::of_user()?.root()))
    }

    /// The folder, which need not exist.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder, made if need be, which must be the user's own: what is in it is trusted.
    pub(super) fn make(&self) -> Result<(), FailedBuildError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(IoError::on("create the folder", &self.folder))?;
        self.check()
    }

    fn check(&self) -> Result<(), FailedBuildError> {
        let metadata =
            fs::symlink_metadata(&self.folder).map_err(IoError::on("read", &self.folder))?;
        if metadata.is_dir() && metadata.uid() == getuid().as_raw() {
            return Ok(());
        }
        let error = io::Error::other("it belongs to another user");
        Err(IoError::on("use", &self.folder)(error).into())
    }

    /// Names of the builds, the oldest first.
    ///
    /// # Errors
    /// Fails if the folder cannot be read.
    pub fn ids(&self) -> Result<Vec<String>, FailedBuildError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(IoError::on("read", &self.folder))?,
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

    /// Returns the build named `id`, or the newest one.
    ///
    /// # Errors
    /// Fails if there is no such build, or it cannot be used.
    pub fn get(&self, id: Option<&str>) -> Result<FailedBuild, FailedBuildError> {
        let ids = self.ids()?;
        let Some(newest) = ids.last() else {
            return Err(FailedBuildError::Nothing);
        };
        let id = id.unwrap_or(newest);
        if !ids.iter().any(|known| known == id) {
            let nearest = nearest(id, ids.iter().map(String::as_str), TYPO);
            return Err(FailedBuildError::Unknown {
                id: id.to_owned(),
                nearest: nearest.map(str::to_owned),
                known: ids,
            });
        }
        let folder = self.folder.join(id);
        let record = Record::read(&folder).map_err(|problem| FailedBuildError::Damaged {
            id: id.to_owned(),
            problem,
        })?;
        Ok(FailedBuild {
            bytes: bytes(&folder),
            folder,
            record,
        })
    }

    /// The bytes that a build takes, damaged or not, and when it failed; `None` if it is gone.
    pub fn size_and_time(&self, id: &str) -> Option<(u64, std::time::SystemTime)> {
        let folder = self.folder.join(id);
        let metadata = fs::symlink_metadata(folder.join(record::NAME)).ok()?;
        Some((bytes(&folder), metadata.modified().ok()?))
    }

    /// Removes a build. Returns the bytes that are free again.
    ///
    /// # Errors
    /// Fails if it is in use, or cannot be removed.
    pub fn remove(&self, id: &str) -> Result<u64, FailedBuildError> {
        let folder = self.folder.join(id);
        let builds = Dir::open(&self.folder).map_err(IoError::on("open", &self.folder))?;
        sweep(&builds);
        let handle = builds
            .folder(OsStr::new(id))
            .map_err(IoError::on("open", &folder))?;
        let _alone = Flock::lock(
            File::from(OwnedFd::from(handle)),
            FlockArg::LockExclusiveNonblock,
        )
        .map_err(|_| FailedBuildError::InUse(id.to_owned()))?;
        let freed = bytes(&folder);
        // Out of sight at once: what is half removed is no build.
        let grave = OsString::from(format!("{REMOVED}{id}"));
        builds
            .move_to(OsStr::new(id), &builds, &grave)
            .and_then(|()| remove_tree(&builds, &grave, &StopCheck::default()))
            .map_err(IoError::on("remove", &folder))?;
        Ok(freed)
    }

    /// Removes the oldest builds while there are too many. Returns their names.
    pub(super) fn limit(&self) -> Result<Vec<String>, FailedBuildError> {
        sweep(&Dir::open(&self.folder).map_err(IoError::on("open", &self.folder))?);
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

/// Removes what a process left that was killed while it removed a build. What cannot be removed now is
/// removed later.
fn sweep(builds: &Dir) {
    let names = builds.names().into_iter().flatten().flatten();
    let left = names.filter(|name| name.as_encoded_bytes().starts_with(REMOVED.as_bytes()));
    for name in left.collect::<Vec<_>>() {
        let Ok(handle) = builds.folder(&name) else {
            continue;
        };
        // Another process may be at it.
        let handle = File::from(OwnedFd::from(handle));
        if let Ok(_alone) = Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
            let _ = remove_tree(builds, &name, &StopCheck::default());
        }
    }
}

/// The logs of a kept build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptLog {
    /// kiwi's.
    Kiwi,
    /// The end of what the box wrote to its console.
    Console,
}

impl FailedBuild {
    /// Opens a log; `None` if the build left none. What is in it is the guest's.
    ///
    /// # Errors
    /// Fails if it cannot be read.
    pub fn open_log(&self, log: KeptLog) -> Result<Option<File>, FailedBuildError> {
        let name = match log {
            KeptLog::Kiwi => LOG_NAME,
            KeptLog::Console => CONSOLE_NAME,
        };
        let open = Dir::open(&self.folder).and_then(|folder| folder.file(OsStr::new(name)));
        match open {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let path = self.folder.join(name);
                Err(IoError::on("open the log", &path)(error).into())
            }
        }
    }

    /// Holds the build while another one goes on with it: one at a time, beside shells.
    ///
    /// # Errors
    /// Fails if it has no checkpoint, or another build goes on with it.
    pub fn hold_checkpoint(&self) -> Result<Flock<File>, FailedBuildError> {
        let path = self.folder.join(checkpoint::FOLDER);
        let handle = Dir::open(&path).map_err(IoError::on("open", &path))?;
        let file = File::from(OwnedFd::from(handle));
        Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| FailedBuildError::Resumed(self.record.id.clone()))
    }

    /// The folder with the disk as it was when kiwi's `prepare` was done.
    pub fn checkpoint_disk(&self) -> PathBuf {
        self.folder.join(checkpoint::FOLDER)
    }

    /// Holds the build while it is used.
    ///
    /// # Errors
    /// Fails if it is being removed.
    pub fn hold(&self) -> Result<Flock<File>, FailedBuildError> {
        let handle = Dir::open(&self.folder).map_err(IoError::on("open", &self.folder))?;
        let locked = Flock::lock(
            File::from(OwnedFd::from(handle)),
            FlockArg::LockSharedNonblock,
        )
        .map_err(|(_, errno)| IoError::on("lock", &self.folder)(errno.into()))?;
        Ok(locked)
    }
}

/// Bytes on the disk of the files in a build's folder that have no name elsewhere; several builds may share one
/// checkpoint, of which each has its part.
pub(super) fn bytes(folder: &Path) -> u64 {
    let files = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten();
        let metadata = entries
            .filter_map(Result::ok)
            .filter_map(|entry| entry.metadata().ok());
        metadata.filter(fs::Metadata::is_file).collect::<Vec<_>>()
    };
    let size = |metadata: &fs::Metadata| metadata.blocks() * 512;
    let own = files(folder);
    let own = own
        .iter()
        .filter(|metadata| metadata.nlink() == 1)
        .map(size);
    let checkpoint = files(&folder.join(checkpoint::FOLDER));
    let shared = checkpoint
        .iter()
        .map(|metadata| size(metadata) / metadata.nlink().max(1));
    own.chain(shared).sum()
}
