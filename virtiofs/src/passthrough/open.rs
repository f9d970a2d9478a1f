//! OPEN, CREATE and TMPFILE: opening and creating regular files.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::budget::Permit;
use super::create::NewInode;
use super::fs::PassthroughFs;
use super::inodes::{Inode, NO_CAPABILITY, NO_SET_ID};
use super::sys;
use crate::fuse::abi::fopen;
use crate::fuse::filesystem::{Context, Entry, NewNode, Opened, errno};
use crate::fuse::name::Name;

impl PassthroughFs {
    /// Returns the host's flags for the guest's `open(2)` flags.
    ///
    /// Not passed on: `O_APPEND`, because the guest says where each write goes; `O_DIRECT`,
    /// which would need aligned guest memory; `O_NOATIME`, which only the owner may use.
    fn open_flags(&self, flags: u32) -> Result<OFlags> {
        let flags = OFlags::from_bits_retain(flags);
        let host = flags & (OFlags::TRUNC | OFlags::SYNC | OFlags::DSYNC);
        let access = flags & OFlags::RWMODE;
        if self.share.read_only && (access != OFlags::RDONLY || host.contains(OFlags::TRUNC)) {
            return Err(errno(libc::EROFS));
        }
        let access = match access {
            // With a writeback cache, the guest also reads pages that it writes only parts of.
            OFlags::WRONLY if self.share.writeback => OFlags::RDWR,
            OFlags::RDONLY | OFlags::WRONLY | OFlags::RDWR => access,
            _ => return Err(errno(libc::EINVAL)),
        };
        Ok(host | access)
    }

    fn opened(&self, file: OwnedFd, inode: Arc<Inode>, permit: Permit) -> Opened {
        let mut flags = fopen::NOFLUSH;
        if self.share.keep_cache {
            flags |= fopen::KEEP_CACHE;
        }
        Opened {
            handle: self.handles.add(file, inode, permit),
            flags,
        }
    }

    pub(super) fn open_file(
        &self,
        inode: &Arc<Inode>,
        flags: u32,
        kill_priv: bool,
    ) -> Result<Opened> {
        let flags = self.open_flags(flags)?;
        match inode.kind {
            libc::S_IFREG => {}
            libc::S_IFDIR => return Err(errno(libc::EISDIR)),
            libc::S_IFLNK => return Err(errno(libc::ELOOP)),
            // The guest's kernel handles them; the host's must never be touched.
            _ => return Err(errno(libc::ENXIO)),
        }
        let permit = self.handles.reserve()?;
        let file = self.with_access(&[inode], || {
            self.proc.reopen(&inode.fd, flags, Mode::empty())
        })?;
        if flags.contains(OFlags::TRUNC) {
            self.drop_privileges(inode, kill_priv)?;
        }
        Ok(self.opened(file, Arc::clone(inode), permit))
    }

    pub(super) fn create_file(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        node: &NewNode,
        flags: u32,
        kill_priv: bool,
    ) -> Result<(Entry, Opened)> {
        self.check_free(parent, name.as_c_str())?;
        let host_flags = self.open_flags(flags)?;
        let permit = self.handles.reserve()?;
        let new = self.new_inode(ctx, parent, node)?;
        let created = self.with_access(&[parent], || {
            let flags = OFlags::CREATE | OFlags::EXCL | host_flags;
            sys::open_beneath(&parent.fd, name.as_c_str(), flags, new.host_mode())
        });
        let file = match created {
            Ok(file) => file,
            Err(error)
                if error.raw_os_error() == Some(libc::EEXIST)
                    && flags.cast_signed() & libc::O_EXCL == 0 =>
            {
                // The name was created since the guest looked it up.
                drop(permit);
                let entry = self.lookup_child(parent, name.as_c_str())?;
                let opened = self
                    .inodes
                    .get(entry.node)
                    .and_then(|inode| self.open_file(&inode, flags, kill_priv))
                    .inspect_err(|_| self.inodes.forget(entry.node, 1))?;
                return Ok((entry, opened));
            }
            Err(error) => return Err(error),
        };
        self.insert_new_open(file, &new, permit).inspect_err(|_| {
            let _ = self.remove(parent, name, AtFlags::empty());
        })
    }

    pub(super) fn create_tmpfile(
        &self,
        ctx: Context,
        parent: &Inode,
        node: &NewNode,
        flags: u32,
    ) -> Result<(Entry, Opened)> {
        // O_TMPFILE cannot be read-only (open(2)).
        let mut host_flags = self.open_flags(flags)? - OFlags::TRUNC;
        if host_flags & OFlags::RWMODE == OFlags::RDONLY {
            host_flags |= OFlags::RDWR;
        }
        let new = self.new_inode(ctx, parent, node)?;
        let flags = host_flags | OFlags::TMPFILE;
        let permit = self.handles.reserve()?;
        let file = self.proc.reopen(&parent.fd, flags, new.host_mode())?;
        self.insert_new_open(file, &new, permit)
    }

    /// Inserts a file that was created open.
    fn insert_new_open(
        &self,
        file: OwnedFd,
        new: &NewInode,
        permit: Permit,
    ) -> Result<(Entry, Opened)> {
        let fd = self.proc.reopen(&file, OFlags::PATH, Mode::empty())?;
        let (entry, inode) = self.insert_new(fd, new)?;
        inode.set_facts(NO_CAPABILITY);
        if new.mode() & (libc::S_ISUID | libc::S_ISGID) == 0 {
            inode.set_facts(NO_SET_ID);
        }
        Ok((entry, self.opened(file, inode, permit)))
    }
}
