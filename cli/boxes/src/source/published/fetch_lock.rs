//! One process fetches a box at a time.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{PullError, io_error};
use crate::store::Store;
use boxbuild_host::interrupt::Interrupt;

/// Beginning of the names of folders for what is being fetched.
const PREFIX: &str = ".fetch-";

/// How often a waiting process looks.
const LOOK: Duration = Duration::from_millis(100);

/// The folder for what is being fetched of a box, for this process alone.
#[derive(Debug)]
pub(super) struct FetchLock {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl FetchLock {
    /// Waits until no other process has it; says so once. `Err(None)` means that the user does not
    /// want to wait.
    pub(super) fn take(
        store: &Store,
        full_name: &str,
        interrupt: &Interrupt,
        say: &mut dyn FnMut(&str),
    ) -> Result<FetchLock, Option<PullError>> {
        let dir = store.root().join(format!("{PREFIX}{full_name}"));
        let mut said = false;
        loop {
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&dir)
                .map_err(io_error("create", &dir))?;
            let handle = match File::open(&dir) {
                Ok(handle) => handle,
                // Who had it is done, and has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Some(io_error("open", &dir)(error))),
            };
            match Flock::lock(handle, FlockArg::LockExclusiveNonblock) {
                Ok(lock) if is_still(&dir, &lock) => return Ok(FetchLock { dir, _lock: lock }),
                Ok(_) => {}
                Err((_, Errno::EWOULDBLOCK)) => {
                    if !said {
                        say(&format!(
                            "another boxbuild is fetching the box {full_name}: waiting for it"
                        ));
                        said = true;
                    }
                    std::thread::sleep(LOOK);
                }
                Err((_, errno)) => return Err(Some(io_error("lock", &dir)(errno.into()))),
            }
            if interrupt.count() > 0 {
                return Err(None);
            }
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The box is published: what was fetched is of no use any more.
    pub(super) fn done(self) {
        // What cannot be removed now is removed by `box prune`.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Whether a folder is still what was opened.
fn is_still(dir: &Path, handle: &File) -> bool {
    let same = |metadata: fs::Metadata| {
        handle
            .metadata()
            .is_ok_and(|own| (own.dev(), own.ino()) == (metadata.dev(), metadata.ino()))
    };
    fs::metadata(dir).is_ok_and(same)
}

/// The box is the one that is published: removes what a process that was killed right after that
/// has left.
pub(super) fn clear(store: &Store, full_name: &str) {
    remove(&store.root().join(format!("{PREFIX}{full_name}")));
}

/// Removes what interrupted fetches have left, unless they go on, and says how many bytes that was.
pub fn prune(store: &Store) -> u64 {
    let entries = fs::read_dir(store.root()).into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
        })
        .map(|entry| remove(&entry.path()))
        .sum()
}

/// Removes a folder unless a process has it, and says how many bytes that was.
fn remove(dir: &Path) -> u64 {
    let Some(_lock) = File::open(dir)
        .ok()
        .and_then(|handle| Flock::lock(handle, FlockArg::LockExclusiveNonblock).ok())
    else {
        return 0;
    };
    let sizes = fs::read_dir(dir).into_iter().flatten().flatten();
    let size = sizes
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.len())
        .sum();
    fs::remove_dir_all(dir).map_or(0, |()| size)
}
