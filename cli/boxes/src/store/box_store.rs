//! The store of a user: boxes are found, added, replaced and removed.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boxbuild_host::arch::Arch;
use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_host::lock_file::{LockFile, LockKind};
use boxbuild_host::nearest::{TYPO, nearest};

use super::error::StoreError;
use super::info::BoxInfo;
use super::installed::{InstalledBox, changed_in_place, lock_path};
use super::names::{check_file_name, check_name, name_for, published_name};
use super::staging::{self, DESCRIPTION, IfExists, Staging};

/// The folder that holds all boxes of a user.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Returns the store at `root`, which need not exist yet.
    pub fn at(root: PathBuf) -> Store {
        Store { root }
    }

    /// Returns the user's store: `$KIWI_BOXED_CACHE_DIR`, or `~/.kiwi_boxes`.
    ///
    /// # Errors
    /// Fails with [`StoreError::NoHome`] if neither that variable nor `HOME` is set.
    pub fn of_user() -> Result<Store, StoreError> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        set("KIWI_BOXED_CACHE_DIR")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".kiwi_boxes")))
            .map(Store::at)
            .ok_or(StoreError::NoHome)
    }

    /// Returns the folder of the store.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the names of all boxes, sorted.
    ///
    /// # Errors
    /// Fails if the store cannot be read.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(IoError::on("read the box store", &self.root)(error).into()),
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

    /// Returns the box that `name` stands for, as [`Store::find`] does.
    ///
    /// # Errors
    /// Fails if there is no such box, or if it is damaged.
    pub fn get_for(&self, name: &str, arch: Option<Arch>) -> Result<InstalledBox, StoreError> {
        self.get(&self.find(name, arch).unwrap_or_else(|| name.to_owned()))
    }

    /// Returns the full name of the box that `name` stands for, if there is one: `name` may lack
    /// the architecture, which is then `arch`, or the host's if that is `None`.
    pub fn find(&self, name: &str, arch: Option<Arch>) -> Option<String> {
        let wanted = arch.unwrap_or_else(Arch::host);
        let mut names = vec![name_for(name, wanted), published_name(name, wanted)];
        names.push(name.to_owned());
        names.into_iter().find(|name| {
            check_name(name).is_ok() && self.root.join(name).join(DESCRIPTION).is_file()
        })
    }

    /// Returns the box with the full name `name`. All of its files are there, in their full sizes.
    ///
    /// # Errors
    /// Fails if there is no such box, or if it is damaged.
    pub fn get(&self, name: &str) -> Result<InstalledBox, StoreError> {
        let dir = self.root.join(name);
        let path = dir.join(DESCRIPTION);
        // Before the description is read: what it names stays until this is dropped.
        let hold = check_name(name).ok().and_then(|()| hold(&dir));
        let text = match check_name(name).map(|()| input::read_text(&path)) {
            Ok(Ok(text)) => text,
            Ok(Err(error)) if error.kind() != io::ErrorKind::NotFound => {
                return Err(IoError::on("read", &path)(error).into());
            }
            _ => return Err(self.unknown(name)?),
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
            _hold: hold.map(Arc::new),
        };
        check_files(&installed).map_err(damaged)?;
        Ok(installed)
    }

    /// The error for a name that no box has.
    fn unknown(&self, name: &str) -> Result<StoreError, StoreError> {
        let boxes = self.names()?;
        let nearest = nearest(name, boxes.iter().map(String::as_str), TYPO).map(str::to_owned);
        Ok(StoreError::Unknown {
            name: name.to_owned(),
            boxes,
            nearest,
        })
    }

    /// Removes a box. Builds that use it go on: they hold its files open.
    ///
    /// # Errors
    /// Fails if there is no such box, or if it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        check_name(name)?;
        let dir = self.root.join(name);
        if !dir.join(DESCRIPTION).is_file() {
            // Fails, with the boxes that there are.
            self.get(name)?;
        }
        // The box vanishes as a whole; its files are removed with the staging folder.
        let staging = self.stage()?;
        fs::rename(&dir, staging.path().join("removed")).map_err(IoError::on("remove", &dir))?;
        Ok(())
    }

    /// Makes the files in `staging` the box `info.name`: at once and as a whole, even if this
    /// process is killed. Builds that use the box as it was go on with that.
    ///
    /// # Errors
    /// Fails if there is such a box and `if_exists` does not let it be replaced, or if a file
    /// operation fails: the box is then as it was.
    pub fn publish(
        &self,
        staging: Staging,
        info: BoxInfo,
        if_exists: IfExists,
    ) -> Result<InstalledBox, StoreError> {
        let name = info.name.clone();
        staging.commit(&self.root, info, if_exists)?;
        self.get(&name)
    }

    /// Creates a folder for a new box in the store's file system. It is removed when it is dropped,
    /// and if this process is killed. Leftovers of other processes are removed first.
    ///
    /// # Errors
    /// Fails if the store cannot be written.
    pub fn stage(&self) -> Result<Staging, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&self.root)
            .map_err(IoError::on("create the box store", &self.root))?;
        self.sweep();
        Staging::create_in(&self.root)
    }

    /// Removes staging folders of processes that are gone.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let ours = name
                .as_encoded_bytes()
                .starts_with(staging::PREFIX.as_bytes());
            if ours {
                // What cannot be removed now is removed by a later sweep.
                let _ = staging::remove_unused(&entry.path());
            }
        }
    }
}

/// Longest wait for a process that removes files of old versions.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Holds the box in a folder; `None` if there is none, or if it is another user's, whose store cannot
/// be locked.
fn hold(dir: &Path) -> Option<LockFile> {
    if !dir.join(DESCRIPTION).is_file() {
        return None;
    }
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        let lock = LockFile::take(&lock_path(dir), LockKind::Shared).ok()?;
        if lock.is_some() || Instant::now() > deadline {
            return lock;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Checks that every file of a box is there, in its full size.
fn check_files(installed: &InstalledBox) -> Result<(), String> {
    for file in installed.info.files() {
        if check_file_name(&file.name).is_err() {
            return Err(format!("box.json names the file '{}'", file.name));
        }
        match fs::metadata(installed.path(file)) {
            Ok(metadata) if metadata.len() == file.size => {}
            Ok(_) if *file == installed.info.disk && installed.original_changed() => {}
            Ok(metadata) => {
                return Err(format!(
                    "{} has {} bytes instead of {}",
                    file.name,
                    metadata.len(),
                    file.size
                ));
            }
            Err(error) => return Err(format!("{}: {error}", file.name)),
        }
    }
    Ok(())
}
