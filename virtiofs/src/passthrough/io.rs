//! Opening and creating regular files.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;

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
    fn open_flags(&self, flags: u32) -> Result<i32> {
        let flags = flags.cast_signed();
        let mut host = flags & (libc::O_TRUNC | libc::O_SYNC | libc::O_DSYNC);
        let access = flags & libc::O_ACCMODE;
        if self.config.read_only && (access != libc::O_RDONLY || host & libc::O_TRUNC != 0) {
            return Err(errno(libc::EROFS));
        }
        host |= match access {
            // The guest's page cache also reads what it writes parts of.
            libc::O_WRONLY if self.config.writeback => libc::O_RDWR,
            libc::O_RDONLY | libc::O_WRONLY | libc::O_RDWR => access,
            _ => return Err(errno(libc::EINVAL)),
        };
        Ok(host)
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
            self.proc.reopen(sys::borrow(&inode.fd), flags, 0)
        })?;
        if flags & libc::O_TRUNC != 0 {
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
            let dir = sys::borrow(&parent.fd);
            let flags = libc::O_CREAT | libc::O_EXCL | host_flags;
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
            let _ = self.remove(parent, name, 0);
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
        let mut host_flags = self.open_flags(flags)? & !libc::O_TRUNC;
        if host_flags & libc::O_ACCMODE == libc::O_RDONLY {
            host_flags |= libc::O_RDWR;
        }
        let birth = self.birth(ctx, parent, new)?;
        let flags = host_flags | libc::O_TMPFILE;
        let file = self
            .proc
            .reopen(sys::borrow(&parent.fd), flags, birth.host_mode())?;
        self.born_open(file, &birth)
    }

    /// A new file that is open already, as an answer to the guest.
    fn born_open(&self, file: OwnedFd, birth: &super::create::Birth) -> Result<(Entry, Opened)> {
        let fd = self.proc.reopen(sys::borrow(&file), libc::O_PATH, 0)?;
        let (entry, inode) = self.born(fd, birth)?;
        inode.learn(NO_CAPABILITY);
        if birth.mode() & (libc::S_ISUID | libc::S_ISGID) == 0 {
            inode.learn(NO_SET_ID);
        }
        Ok((entry, self.opened(file, inode)))
    }
}
