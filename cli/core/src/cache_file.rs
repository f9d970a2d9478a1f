//! Small files in the user's cache, each of which appears by one rename. Losing one costs time only.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use boxbuild_host::input;

use crate::user_cache;

/// Longest file that is read, in bytes.
const LONGEST: usize = 4096;

/// A small file in the user's cache.
#[derive(Debug)]
pub(crate) struct CacheFile {
    /// `None` if there is no cache: it is empty then, and stays so.
    path: Option<PathBuf>,
    /// Files that the folder has at most: the oldest go.
    most: usize,
}

impl CacheFile {
    /// The file `name` of the kind `kind`, of which there are at most `most`.
    pub(crate) fn of_user(kind: &str, name: Option<String>, most: usize) -> CacheFile {
        let folder = user_cache::folder();
        CacheFile {
            path: folder
                .zip(name)
                .map(|(folder, name)| folder.join(kind).join(name)),
            most,
        }
    }

    /// The file at `path`.
    #[cfg(test)]
    pub(crate) fn at(path: Option<PathBuf>, most: usize) -> CacheFile {
        CacheFile { path, most }
    }

    /// Returns its text, as far as it is not too long.
    pub(crate) fn read(&self) -> Option<String> {
        let mut text = input::read_text(self.path.as_ref()?).ok()?;
        text.truncate(text.floor_char_boundary(LONGEST));
        Some(text)
    }

    /// Writes it. A cache that cannot be written to is no reason to fail.
    pub(crate) fn write(&self, text: &str) {
        if let Some(path) = &self.path
            && write(path, text).is_ok()
        {
            limit(path, self.most);
        }
    }
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}

/// Removes the oldest files beside `path`, so that there are at most `most`.
fn limit(path: &Path, most: usize) {
    let Some(entries) = path.parent().and_then(|folder| fs::read_dir(folder).ok()) else {
        return;
    };
    let mut files: Vec<(SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, other)| other != path)
        .collect();
    files.sort();
    let excess = (files.len() + 1).saturating_sub(most);
    for (_, file) in files.iter().take(excess) {
        // Another process may have been faster.
        let _ = fs::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let path = |number: u64| dir.path().join("kind").join(number.to_string());
        for number in 0..10 {
            CacheFile::at(Some(path(number)), 3).write("x");
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(number);
            let file = fs::File::options().append(true).open(path(number)).unwrap();
            file.set_modified(time).unwrap();
        }
        for number in 0..10 {
            assert_eq!(path(number).exists(), number >= 7, "{number}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(CacheFile::at(Some(path), 1).read(), None);
        assert_eq!(CacheFile::at(None, 1).read(), None);
        let path = dir.path().join("long");
        let file = CacheFile::at(Some(path), 1);
        file.write(&"x".repeat(3 * LONGEST));
        assert_eq!(file.read().map(|text| text.len()), Some(LONGEST));
    }
}
