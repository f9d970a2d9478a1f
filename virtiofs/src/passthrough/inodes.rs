//! The inodes that the guest holds references to.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustc_hash::FxHashMap;
use rustix::fs::Statx;

use super::budget::{Budget, Permit};
use super::override_stat::Override;
use super::sharded::{SHARDS, Sharded};
use crate::fuse::abi::ROOT_ID;
use crate::fuse::filesystem::{NodeId, errno};
use crate::hidden::device;

/// Identity of an inode on the host. All of it is the host file system's choice, not the
/// guest's, so FxHash is safe for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    dev: u64,
    ino: u64,
    mount: u64,
}

impl Key {
    fn new(stat: &Statx) -> Self {
        Self {
            dev: device(stat),
            ino: stat.stx_ino,
            mount: stat.stx_mnt_id,
        }
    }
}

/// An inode that the guest holds references to.
#[derive(Debug)]
pub(super) struct Inode {
    /// Node id for the guest, never used again.
    pub(super) id: NodeId,
    /// `O_PATH` descriptor; also keeps the host from giving the inode number to another file.
    pub(super) fd: OwnedFd,
    /// `S_IFMT` bits on the host.
    pub(super) kind: u32,
    key: Key,
    /// References (lookups) that the guest has not given back. Only changed under the lock of
    /// the key's shard.
    lookups: AtomicU64,
    facts: AtomicU32,
    /// The change time at which the override was read, and the override.
    cached_override: Mutex<Option<(Time, Option<Override>)>>,
    /// The descriptor's place in the session's budget; the root has none.
    _permit: Option<Permit>,
}

/// Seconds and nanoseconds since 1970.
type Time = (i64, u32);

/// A change time older than this is final. Two changes get the same change time if they are
/// closer than a tick of the host's clock, which is 10 ms at most.
const SETTLED: Duration = Duration::from_millis(100);

/// Fact of an inode ([`Inode::has_fact`]): no file capabilities are set.
pub(super) const NO_CAPABILITY: u32 = 1;
/// Fact of an inode ([`Inode::has_fact`]): neither set-id bit is set.
pub(super) const NO_SET_ID: u32 = 2;

impl Inode {
    fn new(id: NodeId, fd: OwnedFd, stat: &Statx, permit: Option<Permit>) -> Self {
        Self {
            id,
            fd,
            kind: u32::from(stat.stx_mode) & libc::S_IFMT,
            key: Key::new(stat),
            lookups: AtomicU64::new(1),
            facts: AtomicU32::new(0),
            cached_override: Mutex::default(),
            _permit: permit,
        }
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == libc::S_IFREG
    }

    /// Device number on the host: major in the upper, minor in the lower half.
    pub(super) fn dev(&self) -> u64 {
        self.key.dev
    }

    /// Inode number on the host.
    pub(super) fn ino(&self) -> u64 {
        self.key.ino
    }

    /// Whether the host can store extended attributes for it: Linux has `user.*` only for
    /// regular files and directories (xattr(7)).
    pub(super) fn has_xattrs(&self) -> bool {
        self.is_dir() || self.is_file()
    }

    /// Whether this fact was [set](Self::set_facts) and not [cleared](Self::clear_facts) since.
    pub(super) fn has_fact(&self, fact: u32) -> bool {
        self.facts.load(Ordering::Acquire) & fact != 0
    }

    /// Records facts, so that writing need not ask the host each time.
    pub(super) fn set_facts(&self, facts: u32) {
        self.facts.fetch_or(facts, Ordering::AcqRel);
    }

    /// Drops facts that may no longer hold.
    pub(super) fn clear_facts(&self, facts: u32) {
        self.facts.fetch_and(!facts, Ordering::AcqRel);
    }

    /// Returns the [cached](Self::cache_override) override; the outer `None` if it has to be
    /// read. Valid as long as the change time is the same: setting an extended attribute moves
    /// it.
    pub(super) fn cached_override(&self, stat: &Statx) -> Option<Option<Override>> {
        let (time, cached) = (*lock(&self.cached_override))?;
        (time == change_time(stat)).then_some(cached)
    }

    /// Caches the override that was read after `stat` at the time `now`, unless the change time
    /// is so recent that a later change could leave the same one.
    pub(super) fn cache_override(&self, stat: &Statx, now: SystemTime, value: Option<Override>) {
        let (seconds, nanos) = change_time(stat);
        let changed = u64::try_from(seconds).map(|seconds| Duration::new(seconds, nanos));
        let age = now
            .duration_since(UNIX_EPOCH)
            .ok()
            .zip(changed.ok())
            .and_then(|(now, changed)| now.checked_sub(changed));
        if age.is_some_and(|age| age > SETTLED) {
            *lock(&self.cached_override) = Some(((seconds, nanos), value));
        }
    }
}

fn change_time(stat: &Statx) -> Time {
    (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)
}

/// Locks even if another thread panicked: no code here leaves a table half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table of all inodes that the guest holds references to.
#[derive(Debug)]
pub(super) struct Inodes {
    by_id: Sharded<Arc<Inode>>,
    by_key: [Mutex<FxHashMap<Key, Arc<Inode>>>; SHARDS],
    root: Arc<Inode>,
    next_id: AtomicU64,
    budget: Arc<Budget>,
}

impl Inodes {
    /// Creates a table with the root, which is never removed; all others are of this budget.
    pub(super) fn new(root: OwnedFd, stat: &Statx, budget: Arc<Budget>) -> Self {
        let table = Self {
            by_id: Sharded::new(),
            by_key: std::array::from_fn(|_| Mutex::default()),
            root: Arc::new(Inode::new(ROOT_ID, root, stat, None)),
            next_id: AtomicU64::new(ROOT_ID + 1),
            budget,
        };
        table.reset();
        table
    }

    /// Removes everything but the root.
    pub(super) fn reset(&self) {
        for shard in &self.by_key {
            lock(shard).clear();
        }
        self.by_id.clear();
        self.by_id.insert(ROOT_ID, Arc::clone(&self.root));
        lock(self.shard(self.root.key)).insert(self.root.key, Arc::clone(&self.root));
    }

    fn shard(&self, key: Key) -> &Mutex<FxHashMap<Key, Arc<Inode>>> {
        // Always within the array, as SHARDS is its length.
        &self.by_key[key.ino as usize % SHARDS]
    }

    pub(super) fn root(&self) -> &Arc<Inode> {
        &self.root
    }

    /// Returns the inode with this node id; `ENOENT` if the guest does not hold it.
    pub(super) fn get(&self, id: NodeId) -> io::Result<Arc<Inode>> {
        if id == ROOT_ID {
            return Ok(Arc::clone(&self.root));
        }
        self.by_id.get(id).ok_or_else(|| errno(libc::ENOENT))
    }

    /// Returns the inode that `fd` refers to, inserted if it is not in the table yet, with one
    /// more reference. Fails with `ENFILE` if the guest holds too many.
    pub(super) fn insert_or_ref(&self, fd: OwnedFd, stat: &Statx) -> io::Result<Arc<Inode>> {
        let key = Key::new(stat);
        let mut shard = lock(self.shard(key));
        if let Some(inode) = shard.get(&key) {
            inode.lookups.fetch_add(1, Ordering::Relaxed);
            return Ok(Arc::clone(inode));
        }
        let permit = self.budget.take()?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let inode = Arc::new(Inode::new(id, fd, stat, Some(permit)));
        shard.insert(key, Arc::clone(&inode));
        self.by_id.insert(inode.id, Arc::clone(&inode));
        Ok(inode)
    }

    /// Adds a reference to an inode that was in the table.
    pub(super) fn ref_again(&self, inode: &Arc<Inode>) {
        let mut shard = lock(self.shard(inode.key));
        if inode.lookups.fetch_add(1, Ordering::Relaxed) == 0 {
            // Another request has removed it meanwhile.
            shard.insert(inode.key, Arc::clone(inode));
            self.by_id.insert(inode.id, Arc::clone(inode));
        }
    }

    /// Drops `count` references, at most as many as there are; removes the inode with the last.
    pub(super) fn forget(&self, id: NodeId, count: u64) {
        if id == ROOT_ID {
            return;
        }
        let Some(inode) = self.by_id.get(id) else {
            return;
        };
        let mut shard = lock(self.shard(inode.key));
        let left = inode.lookups.load(Ordering::Relaxed).saturating_sub(count);
        inode.lookups.store(left, Ordering::Relaxed);
        if left == 0 {
            if shard.get(&inode.key).is_some_and(|known| known.id == id) {
                shard.remove(&inode.key);
            }
            self.by_id.remove(id);
        }
    }
}
