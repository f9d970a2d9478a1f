//! How many of the process's descriptors a guest may make the server hold.
//!
//! Each inode that the guest holds, and each file or directory that it has open, takes one. The
//! process needs others for the network, the disk and its own work, so that a session gets a
//! quarter of the limit, and all sessions of the process half of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::fuse::filesystem::errno;

/// Descriptors that all sessions of this process hold for their guests.
static ALL: AtomicUsize = AtomicUsize::new(0);

/// The descriptors of one session.
#[derive(Debug)]
pub(super) struct Budget {
    /// The share's root, for the message.
    root: PathBuf,
    /// The process's limit of open files.
    files: usize,
    used: AtomicUsize,
    reported: AtomicBool,
}

impl Budget {
    /// A budget within the process's limit of open files.
    pub(super) fn new(root: PathBuf, files: usize) -> Arc<Self> {
        Arc::new(Self {
            root,
            files,
            used: AtomicUsize::new(0),
            reported: AtomicBool::new(false),
        })
    }

    /// The most descriptors of the session.
    fn limit(&self) -> usize {
        self.files / 4
    }

    /// Takes one descriptor. Fails with `ENFILE` if there is none left; the first time with a
    /// warning.
    pub(super) fn take(self: &Arc<Self>) -> io::Result<Permit> {
        // Each step is undone by dropping the permit.
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        let all = ALL.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        if used < self.limit() && all < self.files / 2 {
            return Ok(permit);
        }
        if !self.reported.swap(true, Ordering::Relaxed) {
            log::warn!(
                "the guest holds {used} files and folders of the share {}, all that the limit of \
                 open files ({}) has for it; for more it gets the error ENFILE until it gives \
                 some back. A build that needs more needs a higher limit (ulimit -n, or \
                 LimitNOFILE= of the service)",
                self.root.display(),
                self.files
            );
        }
        Err(errno(libc::ENFILE))
    }

    /// Whether more than half is taken, of this session's or of what all have together: the guest
    /// shall cache less.
    pub(super) fn is_scarce(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.limit() / 2
            || ALL.load(Ordering::Relaxed) > self.files / 4
    }
}

/// One descriptor of a [`Budget`], given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Budget>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
        ALL.fetch_sub(1, Ordering::Relaxed);
    }
}
