//! Which inodes and which open files the guest knows.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Statx;

use super::override_stat::Override;
use crate::fuse::abi::ROOT_ID;
use crate::fuse::filesystem::{NodeId, errno};

/// Locks by which threads are kept out of each other's way; a power of two.
const SHARDS: usize = 16;

/// Mixes integers by multiplication, as rustc's FxHash does. The keys are ours or the host file
/// system's, never freely chosen by a guest.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct FastHasher(u64);

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        // HashMap uses the upper bits for its tags and the lower ones for the place.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // 2^64 / golden ratio
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// What makes an inode the same inode on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) mount: u64,
}

impl Key {
    pub(super) fn new(stat: &Statx) -> Self {
        let dev = (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor);
        Self {
            dev,
            ino: stat.stx_ino,
            mount: stat.stx_mnt_id,
        }
    }
}

/// An inode that the guest knows.
#[derive(Debug)]
pub(super) struct Inode {
    /// Its number for the guest, never used again.
    pub(super) id: NodeId,
    /// `O_PATH` descriptor; also keeps the host from giving the inode number to another file.
    pub(super) fd: OwnedFd,
    /// `S_IFMT` bits on the host.
    pub(super) kind: u32,
    key: Key,
    /// Lookups that the guest has not taken back. Only changed under the lock of the key's shard.
    lookups: AtomicU64,
    known: AtomicU32,
    /// The change time at which the override was read, and what was there.
    replaced: Mutex<Option<(Time, Option<Override>)>>,
}

/// Seconds and nanoseconds since 1970.
type Time = (i64, u32);

/// A file's change time does not tell two changes apart that are closer than the tick of the
/// host's clock (at most 10 ms); this is long enough ago for any.
const SETTLED: Duration = Duration::from_millis(100);

/// [`Inode::knows`]: no file capabilities are set.
pub(super) const NO_CAPABILITY: u32 = 1;
/// [`Inode::knows`]: neither set-id bit is set.
pub(super) const NO_SET_ID: u32 = 2;

impl Inode {
    pub(super) fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == libc::S_IFREG
    }

    /// Its device on the host.
    pub(super) fn dev(&self) -> u64 {
        self.key.dev
    }

    /// Its inode number on the host.
    pub(super) fn ino(&self) -> u64 {
        self.key.ino
    }

    /// Whether the host can store extended attributes for it: Linux has `user.*` only for
    /// regular files and directories (xattr(7)).
    pub(super) fn has_xattrs(&self) -> bool {
        self.is_dir() || self.is_file()
    }

    /// Whether this fact was [learnt](Self::learn) and not [forgotten](Self::unlearn) again.
    pub(super) fn knows(&self, fact: u32) -> bool {
        self.known.load(Ordering::Acquire) & fact != 0
    }

    /// The override that was [remembered](Self::remember), if the inode has not changed since:
    /// whatever sets an extended attribute moves the change time. `None` if it is to be read.
    pub(super) fn replaced(&self, stat: &Statx) -> Option<Option<Override>> {
        let (time, replaced) = (*lock(&self.replaced))?;
        (time == change_time(stat)).then_some(replaced)
    }

    /// Remembers the override that was read after `stat` at the time `now`, unless a change that
    /// is yet to come could leave the same change time.
    pub(super) fn remember(&self, stat: &Statx, now: SystemTime, found: Option<Override>) {
        let (seconds, nanos) = change_time(stat);
        let changed = u64::try_from(seconds).map(|seconds| Duration::new(seconds, nanos));
        let age = now
            .duration_since(UNIX_EPOCH)
            .ok()
            .zip(changed.ok())
            .and_then(|(now, changed)| now.checked_sub(changed));
        if age.is_some_and(|age| age > SETTLED) {
            *lock(&self.replaced) = Some(((seconds, nanos), found));
        }
    }

    /// Remembers facts, so that writing need not ask the host each time.
    pub(super) fn learn(&self, facts: u32) {
        self.known.fetch_or(facts, Ordering::AcqRel);
    }

    /// Forgets facts that may not hold any more.
    pub(super) fn unlearn(&self, facts: u32) {
        self.known.fetch_and(!facts, Ordering::AcqRel);
    }
}

fn change_time(stat: &Statx) -> Time {
    (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)
}

/// A poisoned lock is as good as any: no code here leaves a table half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A map in shards.
#[derive(Debug)]
struct Sharded<V>([RwLock<FastMap<u64, V>>; SHARDS]);

impl<V: Clone> Sharded<V> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }

    fn shard(&self, id: u64) -> &RwLock<FastMap<u64, V>> {
        // Always within the array, as SHARDS is its length.
        &self.0[id as usize % SHARDS]
    }

    fn get(&self, id: u64) -> Option<V> {
        self.shard(id)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    fn insert(&self, id: u64, value: V) {
        self.shard(id)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, value);
    }

    fn remove(&self, id: u64) -> Option<V> {
        self.shard(id)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
    }

    fn clear(&self) {
        for shard in &self.0 {
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
    }
}

/// All inodes that the guest knows.
#[derive(Debug)]
pub(super) struct Inodes {
    by_id: Sharded<Arc<Inode>>,
    by_key: [Mutex<FastMap<Key, Arc<Inode>>>; SHARDS],
    root: Arc<Inode>,
    next_id: AtomicU64,
}

impl Inodes {
    /// A table that knows the root, which stays known for ever.
    pub(super) fn new(root: OwnedFd, stat: &Statx) -> Self {
        let root = Arc::new(Inode {
            id: ROOT_ID,
            fd: root,
            kind: u32::from(stat.stx_mode) & libc::S_IFMT,
            key: Key::new(stat),
            lookups: AtomicU64::new(1),
            known: AtomicU32::new(0),
            replaced: Mutex::default(),
        });
        let table = Self {
            by_id: Sharded::new(),
            by_key: std::array::from_fn(|_| Mutex::default()),
            root,
            next_id: AtomicU64::new(ROOT_ID + 1),
        };
        table.reset();
        table
    }

    /// Forgets everything but the root.
    pub(super) fn reset(&self) {
        for shard in &self.by_key {
            lock(shard).clear();
        }
        self.by_id.clear();
        self.by_id.insert(ROOT_ID, Arc::clone(&self.root));
        lock(self.shard(self.root.key)).insert(self.root.key, Arc::clone(&self.root));
    }

    fn shard(&self, key: Key) -> &Mutex<FastMap<Key, Arc<Inode>>> {
        // Always within the array, as SHARDS is its length.
        &self.by_key[key.ino as usize % SHARDS]
    }

    pub(super) fn root(&self) -> &Arc<Inode> {
        &self.root
    }

    /// The device of the root.
    pub(super) fn root_dev(&self) -> u64 {
        self.root.key.dev
    }

    /// The inode with this number; `ENOENT` if the guest made it up or has forgotten it.
    pub(super) fn get(&self, id: NodeId) -> io::Result<Arc<Inode>> {
        if id == ROOT_ID {
            return Ok(Arc::clone(&self.root));
        }
        self.by_id.get(id).ok_or_else(|| errno(libc::ENOENT))
    }

    /// The inode that `fd` is, known from now on; counts one lookup.
    pub(super) fn found(&self, fd: OwnedFd, stat: &Statx) -> Arc<Inode> {
        let key = Key::new(stat);
        let mut shard = lock(self.shard(key));
        if let Some(inode) = shard.get(&key) {
            inode.lookups.fetch_add(1, Ordering::Relaxed);
            return Arc::clone(inode);
        }
        let inode = Arc::new(Inode {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            fd,
            kind: u32::from(stat.stx_mode) & libc::S_IFMT,
            key,
            lookups: AtomicU64::new(1),
            known: AtomicU32::new(0),
            replaced: Mutex::default(),
        });
        shard.insert(key, Arc::clone(&inode));
        self.by_id.insert(inode.id, Arc::clone(&inode));
        inode
    }

    /// Counts one more lookup of an inode that the guest knows.
    pub(super) fn again(&self, inode: &Arc<Inode>) {
        let mut shard = lock(self.shard(inode.key));
        if inode.lookups.fetch_add(1, Ordering::Relaxed) == 0 {
            // Forgotten by another request just now.
            shard.insert(inode.key, Arc::clone(inode));
            self.by_id.insert(inode.id, Arc::clone(inode));
        }
    }

    /// Takes back `count` lookups; more than there were count as all.
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

/// All open files and directories of the guest.
#[derive(Debug)]
pub(super) struct Handles {
    open: Sharded<Arc<OpenFile>>,
    next_id: AtomicU64,
}

/// An open file or directory.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// The host's open file.
    pub(super) file: OwnedFd,
    /// What it is open of.
    pub(super) inode: Arc<Inode>,
    /// Where a directory is read.
    pub(super) reading: Mutex<super::dir::Reading>,
}

impl OpenFile {
    /// Where a directory is read, for one request at a time.
    pub(super) fn reading(&self) -> MutexGuard<'_, super::dir::Reading> {
        lock(&self.reading)
    }
}

impl Handles {
    pub(super) fn new() -> Self {
        Self {
            open: Sharded::new(),
            next_id: AtomicU64::new(1),
        }
    }

    pub(super) fn add(&self, file: OwnedFd, inode: Arc<Inode>) -> u64 {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.open.insert(
            id,
            Arc::new(OpenFile {
                file,
                inode,
                reading: Mutex::default(),
            }),
        );
        id
    }

    /// The open file with this number; `EBADF` unless it is open and belongs to the inode.
    pub(super) fn get(&self, id: u64, node: NodeId) -> io::Result<Arc<OpenFile>> {
        let open = self.open.get(id).ok_or_else(|| errno(libc::EBADF))?;
        if open.inode.id == node {
            Ok(open)
        } else {
            Err(errno(libc::EBADF))
        }
    }

    pub(super) fn remove(&self, id: u64, node: NodeId) -> io::Result<()> {
        self.get(id, node)?;
        self.open.remove(id);
        Ok(())
    }

    pub(super) fn reset(&self) {
        self.open.clear();
    }
}
