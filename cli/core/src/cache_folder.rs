//! A package cache on the host, which one build at a time writes into: package managers lock it within
//! one system only.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use boxbuild_host::untrusted::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A cache that this build has for itself. It is given back when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct CacheFolder {
    _lock: Arc<Held>,
}

#[derive(Debug)]
struct Held {
    /// Device and inode.
    id: (u64, u64),
    _lock: Flock<File>,
}

/// Those of this process: another plan for the same build has the same cache.
static HELD: Mutex<Vec<Weak<Held>>> = Mutex::new(Vec::new());

impl CacheFolder {
    /// Takes the cache in the folder `path`; `None` if another build has it.
    ///
    /// # Errors
    /// Fails if the folder cannot be opened or locked.
    pub fn take(path: &Path) -> io::Result<Option<CacheFolder>> {
        let folder = File::from(OwnedFd::from(Dir::open(path)?));
        let metadata = folder.metadata()?;
        let id = (metadata.dev(), metadata.ino());
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|known| known.strong_count() > 0);
        let known = held.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.into_iter().find(|known| known.id == id) {
            return Ok(Some(CacheFolder { _lock: known }));
        }
        let lock = match Flock::lock(folder, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Arc::new(Held { id, _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno.into()),
        };
        held.push(Arc::downgrade(&lock));
        Ok(Some(CacheFolder { _lock: lock }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_build_has_a_cache_and_all_its_plans() {
        let dir = tempfile::tempdir().unwrap();
        let first = CacheFolder::take(dir.path()).unwrap().unwrap();
        let again = CacheFolder::take(dir.path()).unwrap();
        assert!(again.is_some());
        // Another process has a description of its own.
        let other = || {
            let folder = File::open(dir.path()).unwrap();
            Flock::lock(folder, FlockArg::LockExclusiveNonblock).is_ok()
        };
        drop(first);
        assert!(!other());
        drop(again);
        assert!(other());
    }
}
