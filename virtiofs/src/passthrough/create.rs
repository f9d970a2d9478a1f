//! New inodes: their owner, mode and access control lists.

use std::ffi::CStr;
use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, XattrFlags};

use super::acl::Acl;
use super::metadata::host_mode;
use super::override_stat::{Override, Special};
use super::table::Inode;
use super::{PassthroughFs, sys, xattr};
use crate::fuse::filesystem::{Context, Entry, NewNode, errno};
use crate::fuse::name::Name;

/// What a new inode is to be in the end.
#[derive(Debug)]
pub(super) struct Birth {
    want: Override,
    directory: bool,
    access: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
}

impl Birth {
    /// Permission bits on the host.
    pub(super) fn host_mode(&self) -> Mode {
        Mode::from_bits_retain(host_mode(self.directory, self.want.mode))
    }

    /// Permission and set-id bits for the guest.
    pub(super) fn mode(&self) -> u32 {
        self.want.mode
    }
}

impl PassthroughFs {
    /// Owner, mode and lists that a new inode in `parent` gets: umask(2), acl(5) "object
    /// creation", and inode(7) on directories with the set-group-id bit.
    pub(super) fn birth(&self, ctx: Context, parent: &Inode, new: &NewNode) -> Result<Birth> {
        let kind = new.mode & libc::S_IFMT;
        let directory = kind == libc::S_IFDIR;
        let above = self.stat(parent)?.seen;
        let mut want = Override {
            uid: ctx.uid,
            gid: ctx.gid,
            mode: new.mode & 0o7777,
            special: None,
        };
        if above.mode & libc::S_ISGID != 0 {
            want.gid = above.gid;
            if directory {
                want.mode |= libc::S_ISGID;
            }
        }
        let mut birth = Birth {
            want,
            directory,
            access: None,
            default: None,
        };
        if kind == libc::S_IFLNK {
            return Ok(birth);
        }
        let list = self.stored(parent, xattr::STORED_DEFAULT_ACL)?;
        match list
            .as_deref()
            .map(Acl::parse)
            .transpose()
            .unwrap_or_default()
            .flatten()
        {
            None => birth.want.mode &= !(new.umask & 0o777),
            Some(acl) => {
                let access = acl.inherited(birth.want.mode);
                birth.want.mode = birth.want.mode & !0o777 | access.mode();
                birth.access = (!access.is_mode_only()).then(|| access.format());
                birth.default = if directory { list } else { None };
            }
        }
        Ok(birth)
    }

    /// Makes a new inode on the host what it is to be, and known to the guest.
    pub(super) fn born(&self, fd: OwnedFd, birth: &Birth) -> Result<(Entry, Arc<Inode>)> {
        let stat = sys::statx(&fd)?;
        let inode = self.inodes.found(fd, &stat);
        self.bring_up(&inode, stat, birth)
            .map(|entry| (entry, Arc::clone(&inode)))
            .inspect_err(|_| self.inodes.forget(inode.id, 1))
    }

    fn bring_up(&self, inode: &Inode, stat: Statx, birth: &Birth) -> Result<Entry> {
        // A new inode has no attributes yet.
        let mut meta = self.without_override(stat);
        let mut changed = false;
        if meta.seen != birth.want {
            match self.store(inode, &meta, birth.want) {
                Ok(()) => {}
                // Without user xattrs, all files belong to one guest user.
                Err(error)
                    if error.raw_os_error() == Some(libc::EPERM)
                        && birth.want.special.is_none()
                        && !self.user_xattrs => {}
                Err(error) => return Err(error),
            }
            changed = true;
        }
        let lists = [
            (xattr::STORED_ACCESS_ACL, &birth.access),
            (xattr::STORED_DEFAULT_ACL, &birth.default),
        ];
        for (name, list) in lists {
            if let Some(list) = list {
                self.proc
                    .setxattr(&inode.fd, name, list, XattrFlags::empty())?;
                changed = true;
            }
        }
        if changed {
            meta = self.stat(inode)?;
        }
        Ok(Entry {
            node: inode.id,
            attr: self.attr(&meta),
            timeout: self.config.timeout,
        })
    }

    /// A new inode that has just got a name. It loses the name again if it cannot be what it is
    /// to be.
    fn born_named(&self, parent: &Inode, name: Name<'_>, birth: &Birth) -> Result<Entry> {
        let dir = &parent.fd;
        let result = sys::open_beneath(dir, name.as_c_str(), OFlags::PATH, Mode::empty())
            .and_then(|fd| self.born(fd, birth));
        match result {
            Ok((entry, _)) => Ok(entry),
            Err(error) => {
                let flags = if birth.directory {
                    AtFlags::REMOVEDIR
                } else {
                    AtFlags::empty()
                };
                let _ = self.remove(parent, name, flags);
                Err(error)
            }
        }
    }

    pub(super) fn make_symlink(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry> {
        let new = NewNode {
            mode: libc::S_IFLNK | 0o777,
            umask: 0,
            rdev: 0,
        };
        let birth = self.birth(ctx, parent, &new)?;
        self.with_access(&[parent], || {
            Ok(rustix::fs::symlinkat(target, &parent.fd, name.as_c_str())?)
        })?;
        self.born_named(parent, name, &birth)
    }

    pub(super) fn make_directory(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        new: &NewNode,
    ) -> Result<Entry> {
        let birth = self.birth(ctx, parent, new)?;
        self.with_access(&[parent], || {
            Ok(rustix::fs::mkdirat(
                &parent.fd,
                name.as_c_str(),
                birth.host_mode(),
            )?)
        })?;
        self.born_named(parent, name, &birth)
    }

    pub(super) fn make_node(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        new: &NewNode,
    ) -> Result<Entry> {
        let kind = match new.mode & libc::S_IFMT {
            0 => libc::S_IFREG,
            kind @ (libc::S_IFREG
            | libc::S_IFIFO
            | libc::S_IFSOCK
            | libc::S_IFCHR
            | libc::S_IFBLK) => kind,
            _ => return Err(errno(libc::EINVAL)),
        };
        let mut birth = self.birth(ctx, parent, new)?;
        let dir = &parent.fd;
        let host = birth.host_mode();
        let pipe_or_socket = kind == libc::S_IFIFO || kind == libc::S_IFSOCK;
        // A stand-in remembers its owner and mode; the real thing is better if it need not.
        let plain = Override {
            uid: self.config.guest_uid,
            gid: self.config.guest_gid,
            mode: host.bits(),
            special: None,
        };
        if pipe_or_socket && (!self.user_xattrs || birth.want == plain && birth.access.is_none()) {
            birth.access = None;
            let kind = FileType::from_raw_mode(kind);
            self.with_access(&[parent], || {
                Ok(rustix::fs::mknodat(dir, name.as_c_str(), kind, host, 0)?)
            })?;
            return self.born_named(parent, name, &birth);
        }
        birth.want.special = Special::new(kind, new.rdev);
        if birth.want.special.is_some() && !self.user_xattrs {
            return Err(errno(libc::EPERM));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        drop(self.with_access(&[parent], || {
            sys::open_beneath(dir, name.as_c_str(), flags, host)
        })?);
        self.born_named(parent, name, &birth)
    }
}
