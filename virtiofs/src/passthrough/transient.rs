//! Owners and modes of inodes that cannot have extended attributes, in memory.

use std::io::Result;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use rustix::fs::Statx;

use super::override_stat::Override;
use crate::fuse::filesystem::errno;

/// The most overrides that are kept; bounds the memory that a guest can take.
const MAX_OVERRIDES: usize = 1 << 16;

/// Identity of an inode for as long as the share lives: device, inode number and birth time,
/// which tells a file from a later one with the same number.
type Identity = (u64, u64, u64);

fn identity(stat: &Statx) -> Identity {
    let dev = (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor);
    let birth = stat.stx_btime.tv_sec.cast_unsigned() << 30;
    (dev, stat.stx_ino, birth ^ u64::from(stat.stx_btime.tv_nsec))
}

/// Overrides that last as long as the file system object.
#[derive(Debug, Default)]
pub(super) struct TransientOverrides(Mutex<FxHashMap<Identity, Override>>);

impl TransientOverrides {
    fn lock(&self) -> MutexGuard<'_, FxHashMap<Identity, Override>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the override of the inode with this stat.
    pub(super) fn get(&self, stat: &Statx) -> Option<Override> {
        let overrides = self.lock();
        if overrides.is_empty() {
            return None;
        }
        overrides.get(&identity(stat)).copied()
    }

    pub(super) fn remove(&self, stat: &Statx) {
        self.lock().remove(&identity(stat));
    }

    /// Sets the override of the inode with this stat. Fails with `ENOSPC` if there are too many.
    pub(super) fn set(&self, stat: &Statx, value: Override) -> Result<()> {
        let identity = identity(stat);
        let mut overrides = self.lock();
        if overrides.len() >= MAX_OVERRIDES && !overrides.contains_key(&identity) {
            return Err(errno(libc::ENOSPC));
        }
        overrides.insert(identity, value);
        Ok(())
    }
}
