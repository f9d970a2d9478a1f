//! The state of a shared directory.

use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Once, RwLock};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use rustix::fs::OFlags;

use super::budget::Budget;
use super::handles::Handles;
use super::inodes::{Inode, Inodes};
use super::override_stat;
use super::roots::RegisteredRoot;
use super::sync_pace::SyncPace;
use super::sys::{self, Proc};
use super::transient::TransientOverrides;
use crate::fuse::filesystem::{NodeId, errno};
use crate::share::Share;

/// A directory that cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The root cannot be opened.
    #[error("cannot share {root}; check that it is a directory and accessible: {source}")]
    Root {
        /// The share's root.
        root: PathBuf,
        /// The kernel's error.
        source: Error,
    },
    /// There is no `/proc`.
    #[error("cannot open /proc/self/fd, which sharing a directory needs; mount /proc: {0}")]
    Proc(Error),
}

/// One host directory as a file system for a guest.
#[derive(Debug)]
pub struct PassthroughFs {
    pub(super) share: Share,
    pub(super) proc: Proc,
    pub(super) inodes: Inodes,
    pub(super) handles: Handles,
    /// Effective user id: its files are the guest owner's for the guest.
    pub(super) host_uid: u32,
    pub(super) user_xattrs: bool,
    /// Device numbers of the file systems below the root, in the order they were met.
    pub(super) devices: RwLock<Vec<u64>>,
    pub(super) transient: TransientOverrides,
    pub(super) budget: Arc<Budget>,
    pub(super) sync_pace: SyncPace,
    _root: RegisteredRoot,
}

/// Raises this process's limit of open files to the hard limit. Has writes beyond its limit of
/// file sizes fail (`EFBIG`), where the default is a signal that ends the process (setrlimit(2)).
fn prepare_process() {
    // SAFETY: no handler is installed.
    if let Err(error) = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) } {
        log::warn!("cannot ignore SIGXFSZ: {error}");
    }
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

impl PassthroughFs {
    /// Opens the share's root; see [`with_root`](Self::with_root).
    ///
    /// # Errors
    /// If the root is no directory or not accessible, or there is no `/proc`.
    pub fn new(share: Share) -> std::result::Result<Self, ShareError> {
        let root = Self::open_root(&share)?;
        Self::with_root(share, root)
    }

    /// Opens the root of a share, for a process that gets no paths.
    ///
    /// # Errors
    /// If it is no directory or not accessible.
    pub fn open_root(share: &Share) -> std::result::Result<OwnedFd, ShareError> {
        CString::new(share.root.as_os_str().as_bytes())
            .map_err(|_| errno(libc::EINVAL))
            .and_then(|path| sys::open_path(&path, OFlags::PATH | OFlags::DIRECTORY))
            .map_err(|source| ShareError::Root {
                root: share.root.clone(),
                source,
            })
    }

    /// Serves an open root, whose path is only for messages. The first one in a process also
    /// raises the process's limit of open files to the hard limit, as each inode that a guest holds
    /// takes a descriptor, and ignores SIGXFSZ.
    ///
    /// # Errors
    /// If the root is no directory or not accessible, or there is no `/proc`.
    pub fn with_root(share: Share, root: OwnedFd) -> std::result::Result<Self, ShareError> {
        let failed = |source| ShareError::Root {
            root: share.root.clone(),
            source,
        };
        let stat = sys::statx(&root).map_err(failed)?;
        let proc = Proc::new().map_err(ShareError::Proc)?;
        static PREPARED: Once = Once::new();
        PREPARED.call_once(prepare_process);
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let budget = Budget::new(
            share.root.clone(),
            usize::try_from(files).unwrap_or(usize::MAX),
        );
        let probe = proc.getxattr(&root, override_stat::XATTR, &mut []);
        let user_xattrs = !probe.is_err_and(|e| e.raw_os_error() == Some(libc::EOPNOTSUPP));
        if !user_xattrs {
            log::info!(
                "the file system of {} has no user xattrs: owners and devices cannot be kept",
                share.root.display()
            );
        }
        let inodes = Inodes::new(root, &stat, Arc::clone(&budget));
        Ok(Self {
            proc,
            _root: RegisteredRoot::new(inodes.root()),
            inodes,
            handles: Handles::new(Arc::clone(&budget)),
            host_uid: nix::unistd::geteuid().as_raw(),
            user_xattrs,
            devices: RwLock::default(),
            transient: TransientOverrides::default(),
            budget,
            sync_pace: SyncPace::default(),
            share,
        })
    }

    /// Whether the host's file system can keep foreign owners, special modes and devices. If
    /// not, requests for them answer `EPERM`.
    pub fn has_user_xattrs(&self) -> bool {
        self.user_xattrs
    }

    /// The share that this serves.
    pub fn share(&self) -> &Share {
        &self.share
    }

    /// The descriptor of the share's root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.inodes.root().fd.as_fd()
    }

    /// Fails with `EROFS` if the share is read-only.
    pub(super) fn check_writable(&self) -> Result<()> {
        if self.share.read_only {
            Err(errno(libc::EROFS))
        } else {
            Ok(())
        }
    }

    /// How long the guest may use a name without asking again: not at all once it holds much.
    /// Linux then gives an inode back as soon as nothing uses it (`fuse_dentry_delete` in
    /// fs/fuse/dir.c, since 5.1).
    pub(super) fn name_timeout(&self) -> Duration {
        if self.budget.is_scarce() {
            Duration::ZERO
        } else {
            self.share.timeout
        }
    }

    /// Returns the directory with this node id; `ENOTDIR` if it is another kind of inode.
    pub(super) fn directory(&self, id: NodeId) -> Result<Arc<Inode>> {
        let inode = self.inodes.get(id)?;
        if inode.is_dir() {
            Ok(inode)
        } else {
            Err(errno(libc::ENOTDIR))
        }
    }
}
