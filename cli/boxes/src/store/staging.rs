//! Boxes in the making, and how they become boxes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

use super::error::io_error;
use super::{
    BoxFile, BoxInfo, ContainerImage, DESCRIPTION, InstalledBox, Store, StoreError, check_name,
    marker,
};
use boxbuild_host::digest::sha256;
use boxbuild_host::reaper::Reaper;

/// Hex digits of a file's hash that go into its name.
const HASH_IN_NAME: usize = 12;

/// A box in the making.
#[derive(Debug)]
pub struct Staging {
    /// Ends before the lock does.
    pub(super) _reaper: Reaper,
    pub(super) dir: tempfile::TempDir,
    pub(super) _lock: Flock<File>,
}

impl Staging {
    /// The folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Size and hash of a finished file in the folder, which is flushed to the disk.
    pub fn describe(&self, name: &str) -> Result<BoxFile, StoreError> {
        let path = self.path().join(name);
        let mut file = File::open(&path).map_err(io_error("open", &path))?;
        let (size, sha256) = sha256(&mut file).map_err(io_error("read", &path))?;
        self.adopt(name, size, sha256)
    }

    /// The same for a file whose size and hash (SHA-256, lower-case hex) are known.
    pub fn adopt(&self, name: &str, size: u64, sha256: String) -> Result<BoxFile, StoreError> {
        let path = self.path().join(name);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(io_error("write", &path))?;
        Ok(BoxFile {
            name: name.to_owned(),
            size,
            sha256,
        })
    }

    /// Makes what is in the folder the box `info.name`: at once and as a whole, also if this
    /// process is killed. Builds that use the box as it was go on with that.
    ///
    /// # Errors
    /// If there is such a box and `replace` does not say that it is to go, or if a file operation
    /// fails: the box is then as it was.
    pub fn publish(
        self,
        store: &Store,
        mut info: BoxInfo,
        replace: bool,
    ) -> Result<InstalledBox, StoreError> {
        check_name(&info.name)?;
        let place = store.root.join(&info.name);
        self.name_by_hash(&mut info)?;
        self.write_description(&info)?;
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755))
            .map_err(io_error("change the mode of", self.path()))?;
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(AT_FDCWD, self.path(), AT_FDCWD, &place, flags) {
            Ok(()) => {}
            Err(Errno::EEXIST) if !place.join(DESCRIPTION).is_file() => {
                return Err(StoreError::Foreign(place));
            }
            Err(Errno::EEXIST) if replace => self.merge(&place, &info)?,
            Err(Errno::EEXIST) => return Err(StoreError::Exists(info.name)),
            Err(errno) => return Err(io_error("create", &place)(errno.into())),
        }
        sync(&store.root)?;
        // The folder may be the staging folder itself, which is locked.
        drop(self);
        collect(&place);
        store.get(&info.name)
    }

    /// Gives every file a name that no other content has.
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
            fs::rename(self.path().join(&file.name), &path).map_err(io_error("create", &path))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
                .map_err(io_error("change the mode of", &path))?;
            file.name = name;
        }
        Ok(())
    }

    fn write_description(&self, info: &BoxInfo) -> Result<(), StoreError> {
        let path = self.path().join(DESCRIPTION);
        let text = serde_json::to_string_pretty(info)
            .map_err(|error| io_error("write", &path)(error.into()))?;
        File::create(&path)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .map_err(io_error("write", &path))?;
        sync(self.path())
    }

    /// Puts the files beside those of the box in `place`, and then the description over its.
    fn merge(&self, place: &Path, info: &BoxInfo) -> Result<(), StoreError> {
        // Nobody may clear away what has no description yet.
        let handle = File::open(place).map_err(io_error("open", place))?;
        let _hold = Flock::lock(handle, FlockArg::LockShared)
            .map_err(|(_, errno)| io_error("lock", place)(errno.into()))?;
        let names = info.files().into_iter().map(|file| file.name.as_str());
        for name in names {
            let to = place.join(name);
            fs::rename(self.path().join(name), &to).map_err(io_error("create", &to))?;
        }
        sync(place)?;
        let to = place.join(DESCRIPTION);
        fs::rename(self.path().join(DESCRIPTION), &to).map_err(io_error("replace", &to))?;
        sync(place)
    }
}

/// Waits until the entries of a folder are on the disk.
fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(io_error("write", dir))
}

/// Removes files of a box's folder that belong to none of its versions that anybody uses, and
/// says how many bytes they had. While a build is about to open files, nothing is removed: it is
/// tried again with the next version, and by `box prune`.
pub(super) fn collect(dir: &Path) -> u64 {
    let Some(_alone) = File::open(dir)
        .ok()
        .and_then(|handle| Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok())
    else {
        return 0;
    };
    let Some(info) = fs::read_to_string(dir.join(DESCRIPTION))
        .ok()
        .and_then(|text| serde_json::from_str::<BoxInfo>(&text).ok())
    else {
        return 0;
    };
    let known = info.files();
    let mark = marker(&dir.join(&info.disk.name));
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != DESCRIPTION)
        .filter(|entry| known.iter().all(|file| entry.file_name() != *file.name))
        .filter(|entry| Some(entry.file_name().as_os_str()) != mark.file_name())
        .filter_map(|entry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            fs::remove_file(entry.path()).ok().map(|()| metadata.len())
        })
        .sum()
}
