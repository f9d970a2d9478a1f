//! Kernels and initial ramdisks made ready for a boot on the host, once: in each boot, the guest
//! would need longer for it than the host.
//!
//! Kept in the user's cache under the hash of what they are made from, and published by one
//! rename when they are whole. Losing them costs making them again.

pub mod initrd;
pub mod kernel;
pub mod root;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;

/// The folder `kind` of the cache, which need not exist yet.
fn folder(kind: &str) -> io::Result<PathBuf> {
    let base = etcetera::choose_base_strategy().map_err(io::Error::other)?;
    Ok(base.cache_dir().join("boxbuild").join(kind))
}

/// The file `name` in `folder`; `make` makes its content if it is not there.
fn kept(folder: &Path, name: &str, make: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<File> {
    let path = folder.join(name);
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let content = make()?;
    // Has a name only once it is whole; another build that made it too made the same.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&content)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    File::open(&path)
}

/// All of a file of at most `largest` bytes; it stands at its start afterwards.
fn whole(mut file: &File, largest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(largest).read_to_end(&mut bytes)?;
    file.rewind()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_used_and_what_fails_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("kernels");
        let error = kept(&folder, "x", || Err(io::ErrorKind::InvalidData.into())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        for content in ["first", "second"] {
            let mut file = kept(&folder, "x", || Ok(content.into())).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            assert_eq!(text, "first");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
