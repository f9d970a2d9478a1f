//! Files that show whether other hosts see the folders of a batch.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use boxbuild_host::reaper::Reaper;

use crate::commands::worker::protocol::SharedFile;

/// Begin of the names of the folders with such files. They go with the batch, however it ends.
const PREFIX: &str = ".boxbuild-shared-";

/// Files in the folders that results go to.
#[derive(Debug, Default)]
pub(super) struct SharedFolders {
    made: Vec<Made>,
    /// Which file is that of a target folder. A first attempt makes that folder: the next one must not
    /// get a file in there.
    targets: BTreeMap<PathBuf, SharedFile>,
}

#[derive(Debug)]
struct Made {
    /// The folder that it was made in.
    parent: PathBuf,
    file: SharedFile,
    _reaper: Reaper,
    _folder: tempfile::TempDir,
}

impl SharedFolders {
    /// Returns the file for the target folder `target`, which need not exist: the file is in the
    /// nearest folder that does.
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub(super) fn file_for(&mut self, target: &Path) -> io::Result<SharedFile> {
        if let Some(known) = self.targets.get(target) {
            return Ok(known.clone());
        }
        let file = self.file_near(target)?;
        self.targets.insert(target.to_owned(), file.clone());
        Ok(file)
    }

    fn file_near(&mut self, target: &Path) -> io::Result<SharedFile> {
        let parent = target.ancestors().find(|folder| folder.is_dir());
        let parent = parent.unwrap_or(Path::new("/"));
        if let Some(made) = self.made.iter().find(|made| made.parent == parent) {
            return Ok(made.file.clone());
        }
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let path = folder.path().join("token");
        let text = format!("{}", folder.path().display());
        #[allow(
            clippy::disallowed_methods,
            reason = "a new file in a folder that only this user can enter"
        )]
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)?;
        file.write_all(text.as_bytes())?;
        // The server has it, before others look.
        file.sync_all()?;
        let made = Made {
            parent: parent.to_owned(),
            file: SharedFile {
                path: path.as_path().into(),
                text,
            },
            _reaper: Reaper::watch(folder.path(), &file)?,
            _folder: folder,
        };
        let file = made.file.clone();
        self.made.push(made);
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_into_one_folder_have_one_file_and_it_goes_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut shared = SharedFolders::default();
        let one = shared.file_for(&dir.path().join("out/a")).unwrap();
        let other = shared.file_for(&dir.path().join("out/b")).unwrap();
        assert_eq!(one, other);
        let text = fs::read_to_string(one.path.to_path()).unwrap();
        assert_eq!(text, one.text);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // The first attempt has made it.
        fs::create_dir_all(dir.path().join("out/a")).unwrap();
        assert_eq!(shared.file_for(&dir.path().join("out/a")).unwrap(), one);
        assert_eq!(fs::read_dir(dir.path().join("out/a")).unwrap().count(), 0);
        fs::remove_dir_all(dir.path().join("out")).unwrap();
        drop(shared);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
