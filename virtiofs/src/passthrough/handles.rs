//! The files and directories that the guest has open.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::budget::{Budget, Permit};
use super::dir_stream::{Buffers, DirStream};
use super::inodes::Inode;
use super::sharded::Sharded;
use crate::fuse::filesystem::{Handle, NodeId, errno};

/// An open file or directory.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// The host's open file.
    pub(super) file: OwnedFd,
    pub(super) inode: Arc<Inode>,
    dir_stream: Mutex<DirStream>,
    _permit: Permit,
}

impl OpenFile {
    /// Locks the read position of an open directory, for one request at a time.
    pub(super) fn dir_stream(&self) -> MutexGuard<'_, DirStream> {
        self.dir_stream
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The table of all files and directories that the guest has open.
#[derive(Debug)]
pub(super) struct Handles {
    open: Sharded<Arc<OpenFile>>,
    next: AtomicU64,
    budget: Arc<Budget>,
    /// Of all open directories.
    pub(super) buffers: Arc<Buffers>,
}

impl Handles {
    /// Creates an empty table; all open files are of this budget.
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            open: Sharded::new(),
            next: AtomicU64::new(1),
            budget,
            buffers: Arc::default(),
        }
    }

    /// Takes the place of one more open file, before it is opened: opening may change it. Fails
    /// with `ENFILE` if the guest has too many.
    pub(super) fn reserve(&self) -> io::Result<Permit> {
        self.budget.take()
    }

    /// Adds an open file in its [reserved](Self::reserve) place; returns its handle.
    pub(super) fn add(&self, file: OwnedFd, inode: Arc<Inode>, permit: Permit) -> Handle {
        let handle = self.next.fetch_add(1, Ordering::Relaxed);
        let open = OpenFile {
            file,
            inode,
            dir_stream: Mutex::default(),
            _permit: permit,
        };
        self.open.insert(handle, Arc::new(open));
        handle
    }

    /// Returns the open file of a handle; `EBADF` unless it is open and of this inode.
    pub(super) fn get(&self, handle: Handle, node: NodeId) -> io::Result<Arc<OpenFile>> {
        let open = self.open.get(handle).ok_or_else(|| errno(libc::EBADF))?;
        if open.inode.id == node {
            Ok(open)
        } else {
            Err(errno(libc::EBADF))
        }
    }

    /// Closes a handle; `EBADF` as for [`get`](Self::get).
    pub(super) fn remove(&self, handle: Handle, node: NodeId) -> io::Result<()> {
        self.get(handle, node)?;
        self.open.remove(handle);
        Ok(())
    }

    /// Closes everything.
    pub(super) fn reset(&self) {
        self.open.clear();
    }
}
