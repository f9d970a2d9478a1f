//! Removes trees of any depth.

use std::ffi::{OsStr, OsString};
use std::io;

use super::dir::Dir;
use crate::stop::StopCheck;

/// Beginning of the names that folders get on their way up.
const RISEN: &str = ".removed-";

/// Removes the file or folder `name` in `parent` with everything in it, if it is there. A tree may be
/// of any depth, have any modes and any number of names: every folder is moved up to the top of
/// the tree before its turn comes, so that four descriptors and no path are enough.
///
/// # Errors
/// Fails if something cannot be removed, or `stop` says to stop; what is left can be removed later.
pub fn remove_tree(parent: &Dir, name: &OsStr, stop: &StopCheck) -> io::Result<()> {
    if is_removed(parent, name)? {
        return Ok(());
    }
    let top = open(parent, name)?;
    let mut risen = 0;
    // Passes over the top, until one finds nothing.
    loop {
        let mut found = false;
        for entry in top.names()? {
            let entry = entry?;
            found = true;
            proceed(stop)?;
            if !is_removed(&top, &entry)? {
                flatten(&top, &entry, &mut risen, stop)?;
            }
        }
        if !found {
            return parent.remove_folder(name);
        }
    }
}

/// Removes the folder `name` of `top`, whose folders become folders of `top`.
fn flatten(top: &Dir, name: &OsStr, risen: &mut u64, stop: &StopCheck) -> io::Result<()> {
    let folder = open(top, name)?;
    for entry in folder.names()? {
        let entry = entry?;
        proceed(stop)?;
        if !is_removed(&folder, &entry)? {
            rise(&folder, &entry, top, risen)?;
        }
    }
    // What another process adds meanwhile is for the next pass.
    match top.remove_folder(name) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        result => result,
    }
}

/// Moves the folder `name` of `folder` to `top`.
fn rise(folder: &Dir, name: &OsStr, top: &Dir, risen: &mut u64) -> io::Result<()> {
    loop {
        *risen += 1;
        let new = OsString::from(format!("{RISEN}{risen}"));
        match folder.move_to(name, top, &new) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            // To move a folder is to write into it, too: its '..' changes.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                folder.set_mode(0o700)?;
                folder.unlock(name)?;
                return folder.move_to(name, top, &new);
            }
            result => return result,
        }
    }
}

/// Removes `name` unless it is a folder with something in it. Returns whether it is gone.
fn is_removed(parent: &Dir, name: &OsStr) -> io::Result<bool> {
    match try_to_remove(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            parent.set_mode(0o700)?;
            try_to_remove(parent, name)
        }
        result => result,
    }
}

fn try_to_remove(parent: &Dir, name: &OsStr) -> io::Result<bool> {
    let refused = match parent.remove(name) {
        Ok(()) => return Ok(true),
        // unlink(2): Linux returns EISDIR for a folder, POSIX wants EPERM.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EISDIR | libc::EPERM)) => error,
        Err(error) => return Err(error),
    };
    match parent.remove_folder(name) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        // It is no folder, and EPERM has another reason.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Err(refused),
        Err(error) => Err(error),
    }
}

/// Opens the folder `name`, whatever mode it has.
fn open(parent: &Dir, name: &OsStr) -> io::Result<Dir> {
    match parent.folder(name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            parent.unlock(name)?;
            parent.folder(name)
        }
        folder => folder,
    }
}

fn proceed(stop: &StopCheck) -> io::Result<()> {
    stop.check().map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::interrupt::Interrupt;

    fn remove(dir: &tempfile::TempDir, name: &str) -> io::Result<()> {
        let parent = Dir::open(dir.path())?;
        remove_tree(&parent, name.as_ref(), &StopCheck::default())
    }

    /// A tree that no path can name: PATH_MAX is 4096 bytes, 25,000 levels are 50,000.
    #[test]
    fn a_tree_of_25000_levels_is_removed() {
        // In memory where that is possible: on ext4, a level takes milliseconds.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let mut deepest = Dir::open(dir.path()).unwrap();
        for _ in 0..25_000 {
            deepest = deepest.make_folder("d".as_ref(), 0o755).unwrap();
        }
        deepest.create("file".as_ref(), 0o600).unwrap();
        // On a thread whose stack has no room for a level each.
        std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || remove(&dir, "d").map(|()| dir))
            .unwrap()
            .join()
            .unwrap()
            .map(|dir| assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0))
            .unwrap();
    }

    #[test]
    fn links_are_removed_and_not_followed_and_modes_do_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("precious")).unwrap();
        fs::write(path("precious/file"), "").unwrap();
        fs::create_dir_all(path("tree/a/b/c")).unwrap();
        fs::write(path("tree/a/b/file"), "").unwrap();
        fs::write(path("tree/.removed-1"), "").unwrap();
        symlink("../../precious", path("tree/a/link")).unwrap();
        nix::unistd::mkfifo(&path("tree/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        for name in ["tree/a/b/c", "tree/a/b", "tree/a", "tree"] {
            fs::set_permissions(path(name), Permissions::from_mode(0o000)).unwrap();
        }
        remove(&dir, "tree").unwrap();
        assert!(!path("tree").exists() && path("precious/file").exists());
        symlink("precious", path("link")).unwrap();
        remove(&dir, "link").unwrap();
        remove(&dir, "link").unwrap();
        assert!(path("precious/file").exists());
    }

    #[test]
    fn a_request_to_stop_is_heard() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("tree/a/b")).unwrap();
        let interrupt = Interrupt::default();
        interrupt.request();
        let parent = Dir::open(dir.path()).unwrap();
        let stop = StopCheck::new(&interrupt, None);
        assert!(remove_tree(&parent, "tree".as_ref(), &stop).is_err());
        assert!(dir.path().join("tree").exists());
    }
}
