//! The file system over one host directory, served by an ordinary user.
//!
//! What the host user may not do is kept in extended attributes that only this file system
//! interprets: foreign owners, set-id and sticky bits, modes that would lock the host user out,
//! and devices in `user.containers.override_stat` (the private module `override_stat`); attributes of the
//! classes `security`, `trusted` and `system.posix_acl_*` with the prefix `user.virtiofs.`.
//! Symbolic links and natively created FIFOs and sockets cannot have such attributes (xattr(7)):
//! their foreign owners last as long as this file system object.
//!
//! On the host, every file keeps at least `0600` and every directory `0700`, and never has a
//! set-id or sticky bit. File locks are not forwarded; the guest's kernel keeps them by itself.
//! Closing a file does not ask the host (no FLUSH), so errors that a host's network file system
//! would report at close are only seen by fsync.

mod acl;
mod create;
mod dir;
mod io;
mod metadata;
mod names;
mod override_stat;
mod sys;
mod table;
mod xattr;

use std::ffi::{CStr, CString};
use std::io::{Error, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, RwLock};
use std::time::{Duration, SystemTime};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, SeekFrom, Statx};

use crate::config::ShareConfig;
use crate::descriptor::{GuestSink, GuestSource};
use crate::fuse::abi::{Attr, SetattrIn, StatfsOut, init};
use crate::fuse::filesystem::{
    Context, DirBuffer, Entry, FileSystem, Handle, NewNode, NodeId, Opened, XattrReply, errno,
};
use crate::fuse::name::Name;
use metadata::Volatile;
use table::{Handles, Inode, Inodes};

/// Why a directory cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The directory cannot be opened.
    #[error("cannot share {root}; check that it is a directory and accessible: {source}")]
    Root {
        /// The share's root.
        root: PathBuf,
        /// What the kernel said.
        source: Error,
    },
    /// There is no `/proc`.
    #[error("cannot open /proc/self/fd, which sharing a directory needs; mount /proc: {0}")]
    Proc(Error),
}

/// One host directory as a file system for a guest.
#[derive(Debug)]
pub struct PassthroughFs {
    config: ShareConfig,
    proc: sys::Proc,
    inodes: Inodes,
    handles: Handles,
    /// Effective user id: whose files the guest sees as its own.
    host_uid: u32,
    user_xattrs: bool,
    /// Devices beneath the root, in the order they were met.
    devices: RwLock<Vec<u64>>,
    volatile: Mutex<Volatile>,
}

/// Lets this process open as many files as it may.
fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("cannot raise the limit of open files from {soft} to {hard}: {error}");
    }
}

impl PassthroughFs {
    /// Opens the directory, and raises this process's limit of open files as far as it may, as
    /// each inode that the guest knows takes one.
    ///
    /// # Errors
    /// If the root is no directory or not accessible, or there is no `/proc`.
    pub fn new(config: ShareConfig) -> std::result::Result<Self, ShareError> {
        let failed = |source| ShareError::Root {
            root: config.root.clone(),
            source,
        };
        let path = CString::new(config.root.as_os_str().as_bytes())
            .map_err(|_| failed(errno(libc::EINVAL)))?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = sys::open_path(&path, flags).map_err(failed)?;
        let stat = sys::statx(&root).map_err(failed)?;
        let proc = sys::Proc::new().map_err(ShareError::Proc)?;
        static RAISE_LIMIT: Once = Once::new();
        RAISE_LIMIT.call_once(raise_limit);
        let probe = proc.getxattr(&root, override_stat::XATTR, &mut []);
        let user_xattrs = !probe.is_err_and(|e| e.raw_os_error() == Some(libc::EOPNOTSUPP));
        if !user_xattrs {
            log::info!(
                "the file system of {} has no user xattrs: owners and devices cannot be kept",
                config.root.display()
            );
        }
        Ok(Self {
            proc,
            inodes: Inodes::new(root, &stat),
            handles: Handles::new(),
            host_uid: nix::unistd::geteuid().as_raw(),
            user_xattrs,
            devices: RwLock::default(),
            volatile: Mutex::default(),
            config,
        })
    }

    /// Whether the host's file system can keep foreign owners, special modes and devices. If
    /// not, requests for them answer `EPERM`.
    pub fn has_user_xattrs(&self) -> bool {
        self.user_xattrs
    }

    /// The share that this serves.
    pub fn config(&self) -> &ShareConfig {
        &self.config
    }

    fn check_writable(&self) -> Result<()> {
        if self.config.read_only {
            Err(errno(libc::EROFS))
        } else {
            Ok(())
        }
    }

    /// The directory with this number; `ENOTDIR` if it is none.
    fn directory(&self, id: NodeId) -> Result<Arc<Inode>> {
        let inode = self.inodes.get(id)?;
        if inode.is_dir() {
            Ok(inode)
        } else {
            Err(errno(libc::ENOTDIR))
        }
    }

    /// An inode whose lookup is counted already, as an answer to the guest.
    fn known_entry(&self, inode: &Inode, stat: &Statx) -> Result<Entry> {
        match self.metadata(inode, *stat) {
            Ok(meta) => {
                let attr = self.attr(&meta);
                Ok(Entry {
                    node: inode.id,
                    attr,
                    timeout: self.config.timeout,
                })
            }
            Err(error) => {
                self.inodes.forget(inode.id, 1);
                Err(error)
            }
        }
    }

    fn find(&self, parent: &Inode, name: &CStr) -> Result<Entry> {
        let since = SystemTime::now();
        let fd = self.with_access(&[parent], || {
            sys::open_beneath(&parent.fd, name, OFlags::PATH, Mode::empty())
        })?;
        let stat = sys::statx(&fd)?;
        let inode = self.inodes.found(fd, &stat);
        let stat = self
            .foresee(&inode, stat, (parent, name), since)
            .inspect_err(|_| self.inodes.forget(inode.id, 1))?;
        self.known_entry(&inode, &stat)
    }
}

/// fsync(2) or fdatasync(2).
fn sync(open: &table::OpenFile, data_only: bool) -> Result<()> {
    let result = if data_only {
        rustix::fs::fdatasync(&open.file)
    } else {
        rustix::fs::fsync(&open.file)
    };
    Ok(result?)
}

impl FileSystem for PassthroughFs {
    fn init(&self, offered: u64) -> Result<u64> {
        self.handles.reset();
        self.inodes.reset();
        let mut wanted = init::ATOMIC_O_TRUNC
            | init::AUTO_INVAL_DATA
            | init::ASYNC_DIO
            | init::DO_READDIRPLUS
            | init::READDIRPLUS_AUTO
            | init::CACHE_SYMLINKS
            | init::HANDLE_KILLPRIV_V2;
        // ACL inheritance needs modes that the umask was not applied to.
        if self.user_xattrs && offered & init::DONT_MASK != 0 {
            wanted |= init::POSIX_ACL | init::DONT_MASK;
        }
        if self.config.writeback {
            wanted |= init::WRITEBACK_CACHE;
        }
        Ok(wanted)
    }

    fn destroy(&self) {
        self.handles.reset();
        self.inodes.reset();
    }

    fn lookup(&self, _: Context, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        self.find(&*self.directory(parent)?, name.as_c_str())
    }

    fn forget(&self, node: NodeId, count: u64) {
        self.inodes.forget(node, count);
    }

    fn getattr(&self, _: Context, node: NodeId, _: Option<Handle>) -> Result<(Attr, Duration)> {
        let meta = self.stat(&*self.inodes.get(node)?)?;
        Ok((self.attr(&meta), self.config.timeout))
    }

    fn setattr(&self, ctx: Context, node: NodeId, set: &SetattrIn) -> Result<(Attr, Duration)> {
        self.check_writable()?;
        let inode = self.inodes.get(node)?;
        self.change(ctx, &inode, set)?;
        Ok((self.attr(&self.stat(&inode)?), self.config.timeout))
    }

    fn readlink(&self, _: Context, node: NodeId) -> Result<Vec<u8>> {
        let inode = self.inodes.get(node)?;
        if inode.kind != libc::S_IFLNK {
            return Err(errno(libc::EINVAL));
        }
        sys::readlink(&inode.fd)
    }

    fn symlink(&self, ctx: Context, dir: NodeId, name: Name<'_>, target: &CStr) -> Result<Entry> {
        self.check_writable()?;
        self.make_symlink(ctx, &*self.directory(dir)?, name, target)
    }

    fn mknod(&self, ctx: Context, dir: NodeId, name: Name<'_>, new: NewNode) -> Result<Entry> {
        self.check_writable()?;
        self.make_node(ctx, &*self.directory(dir)?, name, &new)
    }

    fn mkdir(&self, ctx: Context, dir: NodeId, name: Name<'_>, new: NewNode) -> Result<Entry> {
        self.check_writable()?;
        self.make_directory(ctx, &*self.directory(dir)?, name, &new)
    }

    fn unlink(&self, _: Context, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.check_writable()?;
        self.remove(&*self.directory(parent)?, name, AtFlags::empty())
    }

    fn rmdir(&self, _: Context, parent: NodeId, name: Name<'_>) -> Result<()> {
        self.check_writable()?;
        self.remove(&*self.directory(parent)?, name, AtFlags::REMOVEDIR)
    }

    fn rename(
        &self,
        _: Context,
        parent: NodeId,
        name: Name<'_>,
        new_parent: NodeId,
        new_name: Name<'_>,
        flags: u32,
    ) -> Result<()> {
        self.check_writable()?;
        let (from, to) = (self.directory(parent)?, self.directory(new_parent)?);
        self.move_name(&from, name, &to, new_name, flags)
    }

    fn link(&self, _: Context, node: NodeId, dir: NodeId, new_name: Name<'_>) -> Result<Entry> {
        self.check_writable()?;
        self.add_name(&self.inodes.get(node)?, &*self.directory(dir)?, new_name)
    }

    fn open(&self, _: Context, node: NodeId, flags: u32, kill_priv: bool) -> Result<Opened> {
        self.open_file(&self.inodes.get(node)?, flags, kill_priv)
    }

    fn create(
        &self,
        ctx: Context,
        dir: NodeId,
        name: Name<'_>,
        new: NewNode,
        flags: u32,
        kill_priv: bool,
    ) -> Result<(Entry, Opened)> {
        self.check_writable()?;
        self.create_file(ctx, &*self.directory(dir)?, name, &new, flags, kill_priv)
    }

    fn tmpfile(
        &self,
        ctx: Context,
        dir: NodeId,
        new: NewNode,
        flags: u32,
    ) -> Result<(Entry, Opened)> {
        self.check_writable()?;
        self.create_unnamed(ctx, &*self.directory(dir)?, &new, flags)
    }

    fn read(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        sink: &GuestSink<'_>,
    ) -> Result<usize> {
        let open = self.handles.get(handle, node)?;
        sink.read_from(&open.file, offset)
    }

    fn write(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        source: &GuestSource<'_>,
        kill_priv: bool,
    ) -> Result<usize> {
        self.check_writable()?;
        let open = self.handles.get(handle, node)?;
        self.drop_privileges(&open.inode, kill_priv)?;
        source.write_to(&open.file, offset)
    }

    fn statfs(&self, _: Context, node: NodeId) -> Result<StatfsOut> {
        let inode = self.inodes.get(node)?;
        let stat = rustix::fs::fstatvfs(&inode.fd)?;
        let small = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(StatfsOut {
            blocks: stat.f_blocks,
            bfree: stat.f_bfree,
            bavail: stat.f_bavail,
            files: stat.f_files,
            ffree: stat.f_ffree,
            bsize: small(stat.f_bsize),
            namelen: small(stat.f_namemax),
            frsize: small(stat.f_frsize),
            ..Default::default()
        })
    }

    fn release(&self, _: Context, node: NodeId, handle: Handle) -> Result<()> {
        self.handles.remove(handle, node)
    }

    fn fsync(&self, _: Context, node: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        let open = self.handles.get(handle, node)?;
        sync(&open, data_only)
    }

    fn setxattr(
        &self,
        ctx: Context,
        node: NodeId,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        self.check_writable()?;
        self.set_attribute(ctx, &*self.inodes.get(node)?, name, value, flags, kill_sgid)
    }

    fn getxattr(&self, _: Context, node: NodeId, name: &CStr, size: u32) -> Result<XattrReply> {
        self.attribute(&*self.inodes.get(node)?, name, size)
    }

    fn listxattr(&self, _: Context, node: NodeId, size: u32) -> Result<XattrReply> {
        XattrReply::fit(self.attribute_names(&*self.inodes.get(node)?)?, size)
    }

    fn removexattr(&self, _: Context, node: NodeId, name: &CStr) -> Result<()> {
        self.check_writable()?;
        self.remove_attribute(&*self.inodes.get(node)?, name)
    }

    fn opendir(&self, _: Context, node: NodeId, _: u32) -> Result<Opened> {
        self.open_directory(self.directory(node)?)
    }

    fn readdir(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        buffer: &mut DirBuffer<'_>,
    ) -> Result<()> {
        self.read_directory(&*self.handles.get(handle, node)?, offset, buffer, false)
    }

    fn readdirplus(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        buffer: &mut DirBuffer<'_>,
    ) -> Result<()> {
        self.read_directory(&*self.handles.get(handle, node)?, offset, buffer, true)
    }

    fn releasedir(&self, _: Context, node: NodeId, handle: Handle) -> Result<()> {
        self.handles.remove(handle, node)
    }

    fn fsyncdir(&self, _: Context, node: NodeId, handle: Handle, data_only: bool) -> Result<()> {
        let open = self.handles.get(handle, node)?;
        sync(&open, data_only)
    }

    fn access(&self, ctx: Context, node: NodeId, mask: u32) -> Result<()> {
        let inode = self.inodes.get(node)?;
        self.check_access(ctx, &inode, mask)
    }

    fn fallocate(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        mode: u32,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        self.check_writable()?;
        let open = self.handles.get(handle, node)?;
        let mode = FallocateFlags::from_bits_retain(mode);
        Ok(rustix::fs::fallocate(&open.file, mode, offset, length)?)
    }

    fn lseek(
        &self,
        _: Context,
        node: NodeId,
        handle: Handle,
        offset: u64,
        whence: u32,
    ) -> Result<u64> {
        let target = match whence.cast_signed() {
            libc::SEEK_DATA => SeekFrom::Data(offset),
            libc::SEEK_HOLE => SeekFrom::Hole(offset),
            _ => return Err(errno(libc::EINVAL)),
        };
        let open = self.handles.get(handle, node)?;
        if !open.inode.is_file() {
            return Err(errno(libc::EINVAL));
        }
        sys::seek_sparse(&open.file, offset, target)
    }

    fn copy_file_range(
        &self,
        _: Context,
        (node_in, handle_in, mut off_in): (NodeId, Handle, u64),
        (node_out, handle_out, mut off_out): (NodeId, Handle, u64),
        len: u64,
        flags: u64,
    ) -> Result<usize> {
        self.check_writable()?;
        if flags != 0 {
            return Err(errno(libc::EINVAL));
        }
        let from = self.handles.get(handle_in, node_in)?;
        let to = self.handles.get(handle_out, node_out)?;
        self.drop_privileges(&to.inode, false)?;
        // The reply counts in 32 bits; 1 GiB at a time also keeps a worker from being busy for
        // long.
        let len = len.min(1 << 30) as usize;
        Ok(rustix::fs::copy_file_range(
            &from.file,
            Some(&mut off_in),
            &to.file,
            Some(&mut off_out),
            len,
        )?)
    }

    fn syncfs(&self, _: Context, _: NodeId) -> Result<()> {
        let root = self.inodes.root();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let open = self.proc.reopen(&root.fd, flags, Mode::empty())?;
        Ok(rustix::fs::syncfs(&open)?)
    }
}
