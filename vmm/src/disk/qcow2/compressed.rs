//! Compressed clusters: unpacked once, kept for a while, and unpacked ahead by helping threads.
//!
//! Who reads a cluster unpacks it, unless another thread has begun to. What will be read soon is put on a
//! list; helping threads work it off, and so does a reader that would have to wait for one of them. All
//! memory has a limit: what is kept, what is listed, and one cluster with its packed bytes for each thread.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use super::codec::{Codec, Decoder};
use crate::threads::{Role, Threads};

/// Unpacked clusters that are kept, in bytes, and at least so many whatever their size.
const KEPT: usize = 4 << 20;
const KEPT_CLUSTERS: usize = 4;
/// Clusters that are unpacked ahead of their reader, at most.
const AHEAD: usize = 32;
/// Threads that help the readers of one image. With a reader's own as many as QEMU has
/// (`QCOW2_MAX_THREADS`), however few processors there are: they wait for the host's disk, too.
const HELPERS: usize = 3;
/// Memory of clusters that is kept for the next ones.
const SPARE: usize = HELPERS + 1;
/// What a reader that reads on will read next, in bytes.
pub(super) const NEXT: u64 = 256 << 10;
/// Name of the helping threads.
const NAME: &str = "unpack";

/// Unpacks clusters and keeps the last ones.
#[derive(Debug)]
pub(super) struct Unpacker {
    shared: Arc<Shared>,
    /// How helping threads are started, and the file that they read.
    help: OnceLock<(Threads, Arc<File>)>,
    /// Helping threads were asked for.
    asked: AtomicBool,
    /// Where the last reader of compressed clusters stopped, on the disk.
    last_end: AtomicU64,
}

struct Shared {
    codec: Codec,
    state: Mutex<State>,
    /// Something is on the list, or it is over.
    listed: Condvar,
    /// A cluster has been unpacked or given up, or a helping thread has ended.
    done: Condvar,
}

#[derive(Default)]
struct State {
    kept: HashMap<u64, Kept>,
    /// Entries of those, the oldest first.
    order: VecDeque<u64>,
    /// Entries that will be read soon, and that no thread has begun with.
    wanted: VecDeque<u64>,
    /// Entries that threads are unpacking.
    working: Vec<u64>,
    /// Kept clusters that were unpacked ahead and have not been read.
    unread: usize,
    decoders: Vec<Decoder>,
    spare: Vec<Arc<[u8]>>,
    /// Helping threads at work.
    helpers: usize,
    closed: bool,
}

struct Kept {
    cluster: Arc<[u8]>,
    unread: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Unpacker {
    pub(super) fn new(cluster_bits: u32, zstd: bool) -> Unpacker {
        Unpacker {
            shared: Arc::new(Shared {
                codec: Codec { cluster_bits, zstd },
                state: Mutex::default(),
                listed: Condvar::new(),
                done: Condvar::new(),
            }),
            help: OnceLock::new(),
            asked: AtomicBool::new(false),
            last_end: AtomicU64::new(u64::MAX),
        }
    }

    /// The most bytes that one packed byte can stand for.
    pub(super) fn largest_ratio(&self) -> u64 {
        self.shared.codec.largest_ratio()
    }

    /// Where in the file the packed cluster of `entry` may be.
    pub(super) fn range(&self, entry: u64) -> Range<u64> {
        self.shared.codec.range(entry)
    }

    /// The unpacked cluster of a compressed entry.
    pub(super) fn unpacked(&self, file: &File, entry: u64) -> io::Result<Arc<[u8]>> {
        self.shared.unpacked(file, entry)
    }

    /// Allows helping threads, which are started when there is something for them to do.
    pub(super) fn allow_help(&self, threads: Threads, file: Arc<File>) {
        // A device that is activated once more says the same.
        let _ = self.help.set((threads, file));
    }

    /// Whether helping threads are at work; the first question starts them.
    pub(super) fn has_help(&self) -> bool {
        let Some((threads, file)) = self.help.get() else {
            return false;
        };
        if !self.asked.swap(true, Ordering::Relaxed) {
            let (shared, file) = (Arc::downgrade(&self.shared), Arc::downgrade(file));
            let starter = threads.clone();
            let start = move || {
                for _ in 0..HELPERS {
                    let helper = shared
                        .upgrade()
                        .and_then(|shared| Helper::of(shared, &file));
                    let Some(helper) = helper else { return };
                    let threads = starter.clone();
                    let thread = std::thread::Builder::new().name(String::from(NAME));
                    let started = thread.spawn(move || match threads.enter(Role::Unpack, NAME) {
                        Ok(()) => helper.help(),
                        Err(error) => log::warn!("no thread helps to unpack a disk: {error}"),
                    });
                    if let Err(error) = started {
                        log::debug!("no thread helps to unpack a disk: {error}");
                    }
                }
            };
            if let Err(error) = threads.post(start) {
                log::debug!("no thread helps to unpack a disk: {error}");
            }
        }
        self.shared.lock().helpers > 0
    }

    /// Lists the cluster of an entry, which will be read soon. False if no more shall be listed now.
    pub(super) fn want(&self, entry: u64) -> bool {
        self.shared.want(entry)
    }

    /// Whether a reader of `range` of the disk goes on where the last one stopped.
    pub(super) fn goes_on(&self, range: Range<u64>) -> bool {
        self.last_end.swap(range.end, Ordering::Relaxed) == range.start
    }
}

impl Drop for Unpacker {
    /// The file is closed, and its lock gone, when its owner is: helping threads end first.
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        self.shared.listed.notify_all();
        while state.helpers > 0 {
            state = self.shared.wait(state);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        self.done
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Most clusters that are kept.
    fn most(&self) -> usize {
        (KEPT >> self.codec.cluster_bits).max(KEPT_CLUSTERS)
    }

    fn unpacked(&self, file: &File, entry: u64) -> io::Result<Arc<[u8]>> {
        let mut state = self.lock();
        loop {
            if let Some(cluster) = state.read(entry) {
                return Ok(cluster);
            }
            if !state.working.contains(&entry) {
                state.wanted.retain(|wanted| *wanted != entry);
                return self.unpack(state, file, entry, false);
            }
            // Another thread is at it: meanwhile this one does what is next.
            state = match state.wanted.pop_front() {
                Some(next) => {
                    // Its own reader hears of an error.
                    let _ = self.unpack(state, file, next, true);
                    self.lock()
                }
                None => self.wait(state),
            };
        }
    }

    /// Unpacks a cluster and keeps it.
    fn unpack(
        &self,
        mut state: MutexGuard<'_, State>,
        file: &File,
        entry: u64,
        unread: bool,
    ) -> io::Result<Arc<[u8]>> {
        state.working.push(entry);
        let decoder = state.decoders.pop();
        let spare = state.spare.pop();
        drop(state);
        let _claim = Claim {
            shared: self,
            entry,
        };
        let mut decoder = decoder.unwrap_or_else(|| self.codec.decoder());
        let cluster = self.codec.unpack(file, entry, &mut decoder, spare);
        let mut state = self.lock();
        state.decoders.push(decoder);
        if let Ok(cluster) = &cluster {
            let cluster = Arc::clone(cluster);
            state.keep(entry, Kept { cluster, unread }, self.most());
        }
        cluster
    }

    fn want(&self, entry: u64) -> bool {
        let mut state = self.lock();
        let known = state.kept.contains_key(&entry)
            || state.working.contains(&entry)
            || state.wanted.contains(&entry);
        if known {
            return true;
        }
        // Half of what is kept, or the first would be gone before it is read.
        let ahead = state.wanted.len() + state.working.len() + state.unread;
        if state.closed || ahead >= AHEAD.min(self.most() / 2) {
            return false;
        }
        state.wanted.push_back(entry);
        self.listed.notify_one();
        true
    }
}

impl State {
    /// Returns a kept cluster to its reader.
    fn read(&mut self, entry: u64) -> Option<Arc<[u8]>> {
        let kept = self.kept.get_mut(&entry)?;
        if std::mem::take(&mut kept.unread) {
            self.unread -= 1;
        }
        Some(Arc::clone(&kept.cluster))
    }

    fn keep(&mut self, entry: u64, kept: Kept, most: usize) {
        while self.order.len() >= most {
            let oldest = self.order.pop_front();
            let gone = oldest.and_then(|oldest| self.kept.remove(&oldest));
            let Some(gone) = gone else { continue };
            self.unread -= usize::from(gone.unread);
            if self.spare.len() < SPARE {
                self.spare.push(gone.cluster);
            }
        }
        self.unread += usize::from(kept.unread);
        self.order.push_back(entry);
        self.kept.insert(entry, kept);
    }
}

/// A cluster that a thread is unpacking, whatever comes of it.
struct Claim<'s> {
    shared: &'s Shared,
    entry: u64,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.working.retain(|entry| *entry != self.entry);
        drop(state);
        self.shared.done.notify_all();
    }
}

/// A helping thread, from before its start to its end.
struct Helper {
    shared: Arc<Shared>,
    file: Option<Arc<File>>,
}

impl Helper {
    /// One more, unless the image is closed.
    fn of(shared: Arc<Shared>, file: &Weak<File>) -> Option<Helper> {
        let mut state = shared.lock();
        if state.closed {
            return None;
        }
        // From here on, the owner of the file waits.
        state.helpers += 1;
        drop(state);
        Some(Helper {
            file: file.upgrade(),
            shared,
        })
    }

    /// Works off the list until the image is closed.
    fn help(self) {
        let Some(file) = &self.file else { return };
        let shared = &self.shared;
        loop {
            let mut state = shared.lock();
            let next = loop {
                if state.closed {
                    return;
                }
                if let Some(next) = state.wanted.pop_front() {
                    break next;
                }
                let waited = shared.listed.wait(state);
                state = waited.unwrap_or_else(PoisonError::into_inner);
            };
            // The reader meets the error again.
            let _ = shared.unpack(state, file, next, true);
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Before the owner is told, who then closes it.
        self.file = None;
        self.shared.lock().helpers -= 1;
        self.shared.done.notify_all();
    }
}
