//! The roots of all shares of this process.
//!
//! A root keeps its mode on the host: it may be a folder of the user's, or the one lock on what
//! is below it. It is also reached through a share that another one lies in, and through a bind
//! mount, so that it is known by its number and not by its node id.

use std::sync::{PoisonError, RwLock};

use super::inodes::Inode;

/// Device and inode number of each root; as often as it is shared.
static ROOTS: RwLock<Vec<(u64, u64)>> = RwLock::new(Vec::new());

/// Keeps a root in the list until it is dropped.
#[derive(Debug)]
pub(super) struct RegisteredRoot((u64, u64));

impl RegisteredRoot {
    pub(super) fn new(root: &Inode) -> Self {
        let number = (root.dev(), root.ino());
        ROOTS
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(number);
        Self(number)
    }
}

impl Drop for RegisteredRoot {
    fn drop(&mut self) {
        let mut roots = ROOTS.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = roots.iter().position(|root| *root == self.0) {
            roots.swap_remove(index);
        }
    }
}

/// Whether the inode is the root of a share of this process.
pub(super) fn is_root(inode: &Inode) -> bool {
    inode.is_dir()
        && ROOTS
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(&(inode.dev(), inode.ino()))
}
