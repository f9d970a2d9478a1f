//! Opening and creating regular files.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::table::{Inode, NO_CAPABILITY, NO_SET_ID};
use super::{PassthroughFs, sys};
use crate::fuse::abi::fopen;
use crate::fuse::filesystem::{Context, Entry, NewNode, Opened, errno};
use crate::fuse::name::Name;

impl PassthroughFs {
    /// The flags for the host of those that the guest opens with.
    ///
    /// `O_APPEND` is the guest's business, which says where each write goes. `O_DIRECT` would
    /// ask for aligned guest memory, and `O_NOATIME` for the owner.
    fn open_flags(&self, flags: u32) -> Result<OFlags> {
        let flags = OFlags::from_bits_retain(flags);
        let host = flags & (OFlags::TRUNC | OFlags::SYNC | OFlags::DSYNC);
        let access = flags & OFlags::RWMODE;
        if self.config.read_only && (access != OFlags::RDONLY || host.contains(OFlags::TRUNC)) {
            return Err(errno(libc::EROFS));
        }
        Ok(host
            | match access {
                // The guest's page cache also reads what it writes parts of.
                OFlags::WRONLY if self.config.writeback => OFlags::RDWR,
                OFlags::RDONLY | OFlags::WRONLY | OFlags::RDWR => access,
                _ => return Err(errno(libc::EINVAL)),
            })
    }

    fn opened(&self, file: OwnedFd, inode: Arc<Inode>) -> Opened {
        let mut flags = fopen::NOFLUSH;
        if self.config.keep_cache {
            flags |= fopen::KEEP_CACHE;
        }
        Opened {
            handle: self.handles.add(file, inode),
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
        let file = self.with_access(&[inode], || {
            self.proc.reopen(&inode.fd, flags, Mode::empty())
        })?;
        if flags.contains(OFlags::TRUNC) {
            self.drop_privileges(inode, kill_priv)?;
        }
        Ok(self.opened(file, Arc::clone(inode)))
    }

    pub(super) fn create_file(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        new: &NewNode,
        flags: u32,
        kill_priv: bool,
    ) -> Result<(Entry, Opened)> {
        let host_flags = self.open_flags(flags)?;
        let birth = self.birth(ctx, parent, new)?;
        let created = self.with_access(&[parent], || {
            let dir = &parent.fd;
            let flags = OFlags::CREATE | OFlags::EXCL | host_flags;
            sys::open_beneath(dir, name.as_c_str(), flags, birth.host_mode())
        });
        let file = match created {
            Ok(file) => file,
            Err(error)
                if error.raw_os_error() == Some(libc::EEXIST)
                    && flags.cast_signed() & libc::O_EXCL == 0 =>
            {
                // Somebody else was faster.
                let entry = self.find(parent, name.as_c_str())?;
                let opened = self
                    .inodes
                    .get(entry.node)
                    .and_then(|inode| self.open_file(&inode, flags, kill_priv))
                    .inspect_err(|_| self.inodes.forget(entry.node, 1))?;
                return Ok((entry, opened));
            }
            Err(error) => return Err(error),
        };
        self.born_open(file, &birth).inspect_err(|_| {
            let _ = self.remove(parent, name, AtFlags::empty());
        })
    }

    pub(super) fn create_unnamed(
        &self,
        ctx: Context,
        parent: &Inode,
        new: &NewNode,
        flags: u32,
    ) -> Result<(Entry, Opened)> {
        // O_TMPFILE cannot be read-only (open(2)).
        let mut host_flags = self.open_flags(flags)? - OFlags::TRUNC;
        if host_flags & OFlags::RWMODE == OFlags::RDONLY {
            host_flags |= OFlags::RDWR;
        }
        let birth = self.birth(ctx, parent, new)?;
        let flags = host_flags | OFlags::TMPFILE;
        let file = self.proc.reopen(&parent.fd, flags, birth.host_mode())?;
        self.born_open(file, &birth)
    }

    /// A new file that is open already, as an answer to the guest.
    fn born_open(&self, file: OwnedFd, birth: &super::create::Birth) -> Result<(Entry, Opened)> {
        let fd = self.proc.reopen(&file, OFlags::PATH, Mode::empty())?;
        let (entry, inode) = self.born(fd, birth)?;
        inode.learn(NO_CAPABILITY);
        if birth.mode() & (libc::S_ISUID | libc::S_ISGID) == 0 {
            inode.learn(NO_SET_ID);
        }
        Ok((entry, self.opened(file, inode)))
    }
}
