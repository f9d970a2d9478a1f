//! Folders in which boxes are made, and how they become boxes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use boxbuild_host::digest::sha256;
use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_host::lock_file::{LockFile, LockKind};
use boxbuild_host::reaper::Reaper;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

use super::error::StoreError;
use super::info::{BoxFile, BoxInfo, ContainerImage};
use super::installed::{disk_lock_path, lock_path, marker, written_path};
use super::names::check_name;

/// Name of the file that describes a box.
pub(super) const DESCRIPTION: &str = "box.json";

/// Beginning of the names of staging folders.
pub(crate) const PREFIX: &str = ".staging-";

/// Hex digits of a file's hash that its name contains.
const HASH_IN_NAME: usize = 12;

/// What becomes of a box that has the name of a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfExists {
    /// It stays, and the new box is refused.
    Fail,
    /// It is replaced.
    Replace,
}

/// A private folder in which a box is made. It is removed when it is dropped, and if this process
/// is killed.
#[derive(Debug)]
pub struct Staging {
    /// Declared before the lock, which it must not outlive.
    _reaper: Reaper,
    dir: tempfile::TempDir,
    _lock: Flock<File>,
}

impl Staging {
    /// Creates a folder in the store at `root`.
    pub(super) fn create_in(root: &Path) -> Result<Staging, StoreError> {
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(root)
            .map_err(IoError::on("create a folder in", root))?;
        let lock = File::open(dir.path()).map_err(IoError::on("open", dir.path()))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| IoError::on("lock", dir.path())(errno.into()))?;
        let reaper = Reaper::watch(dir.path(), &lock)
            .map_err(IoError::on("start a process that guards", dir.path()))?;
        Ok(Staging {
            _reaper: reaper,
            dir,
            _lock: lock,
        })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Flushes the finished file `name` in the folder to the disk, hashes it, and describes it.
    ///
    /// # Errors
    /// Fails if it cannot be read or flushed.
    pub fn describe(&self, name: &str) -> Result<BoxFile, StoreError> {
        let path = self.path().join(name);
        let mut file = File::open(&path).map_err(IoError::on("open", &path))?;
        let (size, sha256) = sha256(&mut file).map_err(IoError::on("read", &path))?;
        self.adopt(name, size, sha256)
    }

    /// The same for a file whose size in bytes and SHA-256 in lower-case hex are known.
    ///
    /// # Errors
    /// Fails if it cannot be flushed.
    pub fn adopt(&self, name: &str, size: u64, sha256: String) -> Result<BoxFile, StoreError> {
        let path = self.path().join(name);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(IoError::on("write", &path))?;
        Ok(BoxFile {
            name: name.to_owned(),
            size,
            sha256,
        })
    }

    /// Moves what is in the folder to its place in the store at `root`, see
    /// [`Store::publish`](super::Store::publish).
    pub(super) fn commit(
        self,
        root: &Path,
        mut info: BoxInfo,
        if_exists: IfExists,
    ) -> Result<(), StoreError> {
        check_name(&info.name)?;
        let place = root.join(&info.name);
        self.name_by_hash(&mut info)?;
        self.write_description(&info)?;
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))
            .map_err(IoError::on("change the mode of", self.path()))?;
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, self.path(), AT_FDCWD, &place, flags) {
            Ok(()) => {}
            Err(Errno::EEXIST) if !place.join(DESCRIPTION).is_file() => {
                return Err(StoreError::Foreign(place));
            }
            Err(Errno::EEXIST) => match if_exists {
                IfExists::Replace => self.merge(&place, &info)?,
                IfExists::Fail => return Err(StoreError::Exists(info.name)),
            },
            Err(errno) => return Err(IoError::on("create", &place)(errno.into()).into()),
        }
        sync(root)?;
        // The staging folder may have become the box's folder, and is locked until here.
        drop(self);
        collect(&place);
        Ok(())
    }

    /// Renames every file so that its name contains its hash: other content has another name.
    fn name_by_hash(&self, info: &mut BoxInfo) -> Result<(), StoreError> {
        let mut files = vec![&mut info.kernel, &mut info.initrd, &mut info.disk];
        if let Some(ContainerImage::Archive(file)) = &mut info.container {
            files.push(file);
        }
        for file in files {
            let hash = &file.sha256[..HASH_IN_NAME.min(file.sha256.len())];
            let name = match file.name.split_once('.') {
                Some((stem, rest)) => format!("{stem}-{hash}.{rest}"),
                None => format!("{}-{hash}", file.name),
            };
            let path = self.path().join(&name);
            fs::rename(self.path().join(&file.name), &path)
                .map_err(IoError::on("create", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
                .map_err(IoError::on("change the mode of", &path))?;
            file.name = name;
        }
        Ok(())
    }

    fn write_description(&self, info: &BoxInfo) -> Result<(), StoreError> {
        let path = self.path().join(DESCRIPTION);
        let text = serde_json::to_string_pretty(info)
            .map_err(|error| IoError::on("write", &path)(error.into()))?;
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(IoError::on("write", &path))?;
        sync(self.path())
    }

    /// Puts the files beside those of the box in `place`, and then replaces its description.
    fn merge(&self, place: &Path, info: &BoxInfo) -> Result<(), StoreError> {
        // The lock keeps [`collect`] from removing files that no description names yet.
        let _hold = loop {
            let lock = LockFile::take(&lock_path(place), LockKind::Shared);
            if let Some(lock) = lock.map_err(IoError::on("lock", place))? {
                break lock;
            }
            // Another process removes files of old versions, which takes no time.
            std::thread::sleep(Duration::from_millis(10));
        };
        let names = info.files().into_iter().map(|file| file.name.as_str());
        for name in names {
            let to = place.join(name);
            fs::rename(self.path().join(name), &to).map_err(IoError::on("create", &to))?;
        }
        sync(place)?;
        let to = place.join(DESCRIPTION);
        fs::rename(self.path().join(DESCRIPTION), &to).map_err(IoError::on("replace", &to))?;
        // The same disk again, which builds had written into: it is as it was published.
        let written = written_path(&place.join(&info.disk.name));
        match fs::remove_file(&written) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(IoError::on("remove", &written)(error).into());
            }
            _ => {}
        }
        sync(place)
    }
}

/// Flushes the entries of a folder to the disk.
fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(IoError::on("write", dir))?;
    Ok(())
}

/// Removes the files of old versions from a box's folder, and returns the number of bytes freed.
/// Nothing is removed while a build holds the folder: the next version, or `box prune`, tries
/// again.
pub(super) fn collect(dir: &Path) -> u64 {
    let Ok(Some(_alone)) = LockFile::take(&lock_path(dir), LockKind::Exclusive) else {
        return 0;
    };
    let remove = |path: PathBuf| {
        let length = fs::symlink_metadata(&path).ok()?.len();
        fs::remove_file(path).ok().map(|()| length)
    };
    old_files(dir).into_iter().filter_map(remove).sum()
}

/// The files of old versions in a box's folder.
pub(crate) fn old_files(dir: &Path) -> Vec<PathBuf> {
    let Some(info) = input::read_text(&dir.join(DESCRIPTION))
        .ok()
        .and_then(|text| serde_json::from_str::<BoxInfo>(&text).ok())
    else {
        return Vec::new();
    };
    let known = info.files();
    let disk = dir.join(&info.disk.name);
    let kept = [
        lock_path(dir),
        marker(&disk),
        disk_lock_path(&disk),
        written_path(&disk),
    ];
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != DESCRIPTION)
        .filter(|entry| known.iter().all(|file| entry.file_name() != *file.name))
        .filter(|entry| !kept.contains(&entry.path()))
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.is_file()))
        .map(|entry| entry.path())
        .collect()
}

/// Takes the staging folder of a process that is gone; `None` if one uses it.
fn take_unused(path: &Path) -> Option<Flock<File>> {
    // Staging folders have mode 0700: no other user can open, and so lock, them.
    // A folder that was just created is not locked yet.
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    let settled = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age.as_secs() > 10));
    let handle = settled.then(|| File::open(path).ok()).flatten()?;
    Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok()
}

/// Whether no process uses the staging folder at `path`.
pub(crate) fn is_unused(path: &Path) -> bool {
    take_unused(path).is_some()
}

/// Removes the staging folder of a process that is gone; `None` if one uses it.
pub(crate) fn remove_unused(path: &Path) -> Option<io::Result<()>> {
    let _alone = take_unused(path)?;
    Some(fs::remove_dir_all(path))
}
