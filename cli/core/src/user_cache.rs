//! What is in the user's cache (`~/.cache/boxbuild`): kernels and ramdisks that were made ready, and what
//! earlier builds have shown. All of it can be made again.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use etcetera::BaseStrategy;

/// Files that are looked at in a folder at most.
const MOST: usize = 100_000;

/// For so long, a file without a final name belongs to a build that makes it.
const MAKING: Duration = Duration::from_secs(3600);

/// The folder of packages there (docs/package-cache.md).
pub const PACKAGES: &str = "packages";

/// A file of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedFile {
    /// Its path below the cache.
    pub name: String,
    /// What it takes on the disk.
    pub bytes: u64,
    /// When it was made.
    pub modified: SystemTime,
    path: PathBuf,
}

/// The folder of the user's cache, if there can be one.
pub fn folder() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.cache_dir().join("boxbuild"))
}

/// Returns what is in the cache.
pub fn files() -> Vec<CachedFile> {
    folder().map_or_else(Vec::new, |folder| files_in(&folder))
}

fn files_in(cache: &Path) -> Vec<CachedFile> {
    let kinds = entries(cache).filter(|kind| kind.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut found: Vec<CachedFile> = kinds
        .flat_map(|kind| {
            entries(&kind.path())
                .filter_map(|file| cached(cache, &file))
                .collect::<Vec<_>>()
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.take(MOST)
}

fn cached(cache: &Path, file: &DirEntry) -> Option<CachedFile> {
    // Of the link, if it is one.
    let metadata = file.metadata().ok().filter(|metadata| !metadata.is_dir())?;
    let modified = metadata.modified().ok()?;
    let unnamed = file.file_name().as_encoded_bytes().starts_with(b".");
    if unnamed && modified.elapsed().is_ok_and(|age| age < MAKING) {
        return None;
    }
    let path = file.path();
    let name = path.strip_prefix(cache).map(Path::as_os_str);
    Some(CachedFile {
        name: name
            .unwrap_or(OsStr::new(""))
            .to_string_lossy()
            .into_owned(),
        bytes: metadata.blocks() * 512,
        modified,
        path,
    })
}

impl CachedFile {
    /// Removes it. A build that uses it keeps it open.
    ///
    /// # Errors
    /// Fails if it cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// E16: nothing emptied the cache.
    #[test]
    fn all_of_the_cache_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        for kind in ["kernels", "times"] {
            fs::create_dir(dir.path().join(kind)).unwrap();
            fs::write(dir.path().join(kind).join("x"), vec![1; 8192]).unwrap();
            // A build makes it right now.
            fs::write(dir.path().join(kind).join(".tmp1"), "").unwrap();
        }
        let outside = dir.path().join("outside");
        fs::write(&outside, "").unwrap();
        std::os::unix::fs::symlink(&outside, dir.path().join("times/link")).unwrap();
        let found = files_in(dir.path());
        let names: Vec<&str> = found.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["kernels/x", "times/link", "times/x"]);
        assert!(found[0].bytes >= 8192, "{found:?}");
        found.iter().for_each(|file| file.remove().unwrap());
        found.iter().for_each(|file| file.remove().unwrap());
        assert_eq!(files_in(dir.path()), []);
        assert!(outside.exists() && dir.path().join("kernels/.tmp1").exists());
    }
}
