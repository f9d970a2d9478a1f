//! A map behind several locks, so that threads seldom wait for each other.

use std::sync::{PoisonError, RwLock};

use rustc_hash::FxHashMap;

/// Locks per map; a power of two.
pub(super) const SHARDS: usize = 16;

/// A map with numbers as keys, which are the server's own and never chosen by a guest: FxHash
/// has no defence against chosen keys.
#[derive(Debug)]
pub(super) struct Sharded<V>([RwLock<FxHashMap<u64, V>>; SHARDS]);

impl<V: Clone> Sharded<V> {
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| RwLock::default()))
    }

    fn shard(&self, id: u64) -> &RwLock<FxHashMap<u64, V>> {
        // Always within the array, as SHARDS is its length.
        &self.0[id as usize % SHARDS]
    }

    pub(super) fn get(&self, id: u64) -> Option<V> {
        self.shard(id)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    pub(super) fn insert(&self, id: u64, value: V) {
        self.shard(id)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, value);
    }

    pub(super) fn remove(&self, id: u64) -> Option<V> {
        self.shard(id)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
    }

    pub(super) fn clear(&self) {
        for shard in &self.0 {
            shard
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .clear();
        }
    }
}
