//! Files in the store that no box needs: interrupted downloads, folders of killed processes, files of
//! old versions.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use boxbuild_host::lock_file::{LockFile, LockKind};

use crate::source::published;
use crate::store::{Store, StoreError, box_lock_path, staging};

/// Files that are looked at in a folder at most.
const MOST_FILES: usize = 10_000;

/// Something in the store that no box needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its path below the store.
    pub name: String,
    /// What it takes on the disk.
    pub bytes: u64,
    /// When it was last changed.
    pub modified: SystemTime,
    kind: Kind,
    path: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A folder that a box is fetched to.
    Fetch,
    /// A folder that a box was made in.
    Staging,
    /// A file of an old version of a box.
    OldVersion,
}

impl Leftover {
    /// Returns what no box of `store` needs and no process uses.
    ///
    /// # Errors
    /// Fails if the store cannot be read.
    pub fn find(store: &Store) -> Result<Vec<Leftover>, StoreError> {
        let root = store.root();
        let mut found = Vec::new();
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        for entry in entries.take(MOST_FILES) {
            let name = entry.file_name();
            let begins = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            let kind = if begins(published::PREFIX) {
                Kind::Fetch
            } else if begins(staging::PREFIX) {
                Kind::Staging
            } else {
                continue;
            };
            let unused = match kind {
                Kind::Fetch => published::is_unused(&entry.path()),
                _ => staging::is_unused(&entry.path()),
            };
            found.extend(Leftover::of(root, &entry.path(), kind).filter(|_| unused));
        }
        for name in store.names()? {
            let dir = root.join(&name);
            let files = staging::old_files(&dir);
            // Builds hold the lock, and so does what makes a copy of the disk.
            let unused = !files.is_empty()
                && LockFile::take(&box_lock_path(&dir), LockKind::Exclusive)
                    .is_ok_and(|lock| lock.is_some());
            if !unused {
                continue;
            }
            let old = files
                .iter()
                .filter_map(|path| Leftover::of(root, path, Kind::OldVersion));
            found.extend(old);
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    fn of(root: &Path, path: &Path, kind: Kind) -> Option<Leftover> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let bytes = if metadata.is_dir() {
            let files = fs::read_dir(path).into_iter().flatten().flatten();
            let sizes = files
                .take(MOST_FILES)
                .filter_map(|file| file.metadata().ok());
            sizes.map(|file| on_disk(&file)).sum()
        } else {
            on_disk(&metadata)
        };
        Some(Leftover {
            name: path.strip_prefix(root).ok()?.display().to_string(),
            bytes,
            modified: metadata.modified().ok()?,
            kind,
            path: path.to_owned(),
        })
    }

    /// Removes it.
    ///
    /// # Errors
    /// Fails if a process has begun to use it, or it cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        let path = &self.path;
        let used = || io::Error::other("it is in use");
        match self.kind {
            Kind::Fetch => published::remove_unused(path).ok_or_else(used)?,
            Kind::Staging => staging::remove_unused(path).ok_or_else(used)?,
            Kind::OldVersion => {
                let dir = path.parent().ok_or_else(used)?;
                let lock = LockFile::take(&box_lock_path(dir), LockKind::Exclusive)?;
                let _alone = lock.ok_or_else(used)?;
                // A new version may have the file by now.
                if !staging::old_files(dir).contains(path) {
                    return Err(used());
                }
                fs::remove_file(path)
            }
        }
    }
}

/// What a file takes on the disk; one that has another name stays there.
fn on_disk(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    if metadata.is_file() && metadata.nlink() == 1 {
        metadata.blocks() * 512
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_box_needs_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().to_owned());
        let old = SystemTime::now() - std::time::Duration::from_secs(3600);
        for (folder, file) in [
            (".fetch-leap.x86_64", "disk"),
            (".staging-1", "disk"),
            ("stranger", "disk"),
        ] {
            let folder = dir.path().join(folder);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(file), vec![1; 64 << 10]).unwrap();
            let folder = fs::File::open(folder).unwrap();
            folder.set_modified(old).unwrap();
        }
        let found = Leftover::find(&store).unwrap();
        let names: Vec<&str> = found
            .iter()
            .map(|leftover| leftover.name.as_str())
            .collect();
        assert_eq!(names, [".fetch-leap.x86_64", ".staging-1"]);
        for leftover in &found {
            assert!(leftover.bytes >= 64 << 10, "{leftover:?}");
        }
        // A fetch goes on meanwhile.
        let lock = dir.path().join(".fetch-leap.x86_64/.lock");
        let held = LockFile::take(&lock, LockKind::Exclusive).unwrap();
        assert!(held.is_some());
        assert!(found[0].remove().is_err());
        assert_eq!(Leftover::find(&store).unwrap().len(), 1);
        drop(held);
        found.iter().for_each(|leftover| leftover.remove().unwrap());
        assert!(dir.path().join("stranger/disk").exists());
        assert_eq!(Leftover::find(&store).unwrap(), []);
    }
}
