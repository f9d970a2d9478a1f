//! The box store: installed boxes below one directory.
//!
//! Layout: `ROOT/NAME/` holds `box.json` ([`BoxInfo`]) and the files it names. The names of files
//! have the beginning of their hash in them, so that a new version of a box is put beside the old
//! one, and the change of `box.json`, one rename, makes it the box. Builds hold the folder locked,
//! shared, until they have opened what they need: files of an old version go when nobody does.

mod error;
mod info;
mod staging;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use nix::fcntl::{Flock, FlockArg};

use boxbuild_host::arch::Arch;
use boxbuild_host::reaper::Reaper;

pub use error::StoreError;
use error::io_error;
pub use info::{
    BoxFile, BoxInfo, ContainerImage, Guest, HashedFile, Part, Published, check_file_name,
    check_name, name_for, published_name,
};
pub use staging::Staging;

/// Name of the file that describes a box.
const DESCRIPTION: &str = "box.json";

/// Ending of the name of a file beside a disk: see [`marker`].
const CHANGED: &str = ".changed";

/// Beginning of the names of folders in the making.
const STAGING_PREFIX: &str = ".staging-";

/// A box in the store, ready to be used.
#[derive(Debug, Clone)]
pub struct InstalledBox {
    /// Directory of the box.
    pub dir: PathBuf,
    /// Its description.
    pub info: BoxInfo,
    /// When its disk was first written in place (`--no-snapshot`): since then, size and
    /// checksum in the description do not hold for it.
    pub changed: Option<SystemTime>,
    /// Addresses of what a build has to fetch first: none if the box is there.
    pub to_fetch: Vec<String>,
    /// Keeps the box's files in place though a new version is published meanwhile.
    _hold: Option<Arc<Flock<File>>>,
}

impl InstalledBox {
    /// A box that is not there: what can be said of one before it is fetched.
    pub fn prospective(dir: PathBuf, info: BoxInfo, to_fetch: Vec<String>) -> InstalledBox {
        InstalledBox {
            dir,
            info,
            changed: None,
            to_fetch,
            _hold: None,
        }
    }

    /// Path of one of the box's files.
    pub fn path(&self, file: &BoxFile) -> PathBuf {
        self.dir.join(&file.name)
    }

    /// Takes down that the box's disk is written in place from now on. A disk that is also kiwi's
    /// (see [`crate::source::published`]) gets a copy of its own first.
    ///
    /// # Errors
    /// If the box's folder cannot be written.
    pub fn mark_changed(&self) -> Result<(), StoreError> {
        let disk = self.path(&self.info.disk);
        if changed_in_place(&disk).is_some() {
            return Ok(());
        }
        let linked = fs::metadata(&disk).is_ok_and(|metadata| metadata.nlink() > 1);
        if linked {
            let copy = disk.with_extension("copy");
            fs::copy(&disk, &copy)
                .and_then(|_| fs::rename(&copy, &disk))
                .map_err(io_error("copy", &disk))?;
        }
        let path = marker(&disk);
        fs::metadata(&disk)
            .and_then(|metadata| fs::write(&path, metadata.ino().to_string()))
            .map_err(io_error("write", &path))
    }
}

/// The file beside a disk that says, by its time, when that was first written in place. In it is
/// the number of the disk's inode: a new disk of that name is not meant.
fn marker(disk: &Path) -> PathBuf {
    let mut path = disk.as_os_str().to_owned();
    path.push(CHANGED);
    path.into()
}

fn changed_in_place(disk: &Path) -> Option<SystemTime> {
    let marker = marker(disk);
    let inode: u64 = fs::read_to_string(&marker).ok()?.parse().ok()?;
    let same = fs::metadata(disk).is_ok_and(|metadata| metadata.ino() == inode);
    same.then(|| fs::metadata(marker).and_then(|metadata| metadata.modified()))?
        .ok()
}

/// The directory that holds all boxes of a user.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `root`, which need not exist yet.
    pub fn at(root: PathBuf) -> Store {
        Store { root }
    }

    /// The user's store: `$KIWI_BOXED_CACHE_DIR`, or `~/.kiwi_boxes`.
    pub fn of_user() -> Result<Store, StoreError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        set("KIWI_BOXED_CACHE_DIR")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".kiwi_boxes")))
            .map(Store::at)
            .ok_or(StoreError::NoHome)
    }

    /// Where the boxes are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of all boxes, sorted.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("read the box store", &self.root)(error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path().join(DESCRIPTION).is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_name(name).is_ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// A box by its name, or by its name without the architecture that is asked for (the host's
    /// own one unless said).
    pub fn get_for(&self, name: &str, arch: Option<Arch>) -> Result<InstalledBox, StoreError> {
        self.get(&self.find(name, arch).unwrap_or_else(|| name.to_owned()))
    }

    /// The full name of the box that `name` stands for, if there is one.
    pub fn find(&self, name: &str, arch: Option<Arch>) -> Option<String> {
        let wanted = arch.unwrap_or_else(Arch::host);
        let mut names = vec![name_for(name, wanted), published_name(name, wanted)];
        names.push(name.to_owned());
        names.into_iter().find(|name| {
            check_name(name).is_ok() && self.root.join(name).join(DESCRIPTION).is_file()
        })
    }

    /// A box by its name, with its files in place and complete.
    pub fn get(&self, name: &str) -> Result<InstalledBox, StoreError> {
        let dir = self.root.join(name);
        let path = dir.join(DESCRIPTION);
        // Before the description is read: what it names stays until this is dropped.
        let hold = File::open(&dir)
            .ok()
            .and_then(|handle| Flock::lock(handle, FlockArg::LockShared).ok())
            .map(Arc::new);
        let text = match check_name(name).map(|()| fs::read_to_string(&path)) {
            Ok(Ok(text)) => text,
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("read", &path)(error));
            }
            _ => {
                let boxes = self.names()?;
                let nearest = boxes
                    .iter()
                    .map(|known| (strsim::damerau_levenshtein(known, name), known))
                    .min()
                    .filter(|(distance, _)| *distance <= 2)
                    .map(|(_, known)| known.clone());
                return Err(StoreError::Unknown {
                    name: name.to_owned(),
                    boxes,
                    nearest,
                });
            }
        };
        let damaged = |problem| StoreError::Damaged {
            name: name.to_owned(),
            problem,
        };
        let info: BoxInfo =
            serde_json::from_str(&text).map_err(|error| damaged(format!("box.json: {error}")))?;
        if info.format != BoxInfo::FORMAT {
            return Err(damaged(format!("box.json has format {}", info.format)));
        }
        let installed = InstalledBox {
            changed: changed_in_place(&dir.join(&info.disk.name)),
            dir,
            info,
            to_fetch: Vec::new(),
            _hold: hold,
        };
        for file in installed.info.files() {
            if check_file_name(&file.name).is_err() {
                return Err(damaged(format!("box.json names the file '{}'", file.name)));
            }
            match fs::metadata(installed.path(file)) {
                Ok(metadata) if metadata.len() == file.size => {}
                Ok(_) if installed.changed.is_some() && *file == installed.info.disk => {}
                Ok(metadata) => {
                    return Err(damaged(format!(
                        "{} has {} bytes instead of {}",
                        file.name,
                        metadata.len(),
                        file.size
                    )));
                }
                Err(error) => return Err(damaged(format!("{}: {error}", file.name))),
            }
        }
        Ok(installed)
    }

    /// Removes a box. Builds that use it go on: they hold its files open.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        let dir = self.root.join(name);
        if !dir.join(DESCRIPTION).is_file() {
            // Says what there is.
            self.get(name)?;
        }
        // Out of sight at once, and as a whole.
        let staging = self.stage()?;
        let grave = staging.path().join("removed");
        fs::rename(&dir, &grave).map_err(io_error("remove", &dir))
    }

    /// Removes what killed processes and old versions of boxes have left, and says how many bytes
    /// that was. Nothing that anybody uses is touched.
    pub fn prune(&self) -> Result<u64, StoreError> {
        self.sweep();
        let names = self.names()?;
        Ok(names
            .iter()
            .map(|name| staging::collect(&self.root.join(name)))
            .sum())
    }

    /// A private folder in the store's file system, gone when it is dropped unless it is
    /// published. Leftovers of killed processes are removed.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.root)
            .map_err(io_error("create the box store", &self.root))?;
        self.sweep();
        let dir = tempfile::Builder::new()
            .prefix(STAGING_PREFIX)
            .tempdir_in(&self.root)
            .map_err(io_error("create a folder in", &self.root))?;
        let lock = File::open(dir.path()).map_err(io_error("open", dir.path()))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io_error("lock", dir.path())(errno.into()))?;
        let reaper = Reaper::watch(dir.path(), &lock)
            .map_err(io_error("start a process that guards", dir.path()))?;
        Ok(Staging {
            _reaper: reaper,
            dir,
            _lock: lock,
        })
    }

    /// Removes staging folders that nobody holds any more.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            let ours = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(STAGING_PREFIX.as_bytes());
            // A folder that was made this instant is not locked yet.
            let settled = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 10));
            if ours
                && settled
                && let Ok(handle) = File::open(&path)
                && let Ok(_lock) = Flock::lock(handle, FlockArg::LockExclusiveNonblock)
            {
                // What cannot be removed now is tried again next time.
                let _ = fs::remove_dir_all(&path);
            }
        }
    }
}

#[cfg(test)]
mod tests;
