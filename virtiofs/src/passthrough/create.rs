//! New inodes: their owner, mode and access control lists.

use std::ffi::CStr;
use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, XattrFlags};
use rustix::io::Errno;

use super::acl::Acl;
use super::fs::PassthroughFs;
use super::inodes::Inode;
use super::override_stat::{Override, Special};
use super::overrides::host_mode;
use super::sys;
use super::xattr::{STORED_ACCESS_ACL, STORED_DEFAULT_ACL};
use crate::fuse::filesystem::{Context, Entry, NewNode, errno};
use crate::fuse::name::Name;

/// Owner, mode and lists that an inode is created with.
#[derive(Debug)]
pub(super) struct NewInode {
    want: Override,
    directory: bool,
    access_acl: Option<Vec<u8>>,
    default_acl: Option<Vec<u8>>,
}

impl NewInode {
    /// Permission bits on the host.
    pub(super) fn host_mode(&self) -> Mode {
        Mode::from_bits_retain(host_mode(self.directory, self.want.mode))
    }

    /// Permission, set-id and sticky bits for the guest.
    pub(super) fn mode(&self) -> u32 {
        self.want.mode
    }
}

impl PassthroughFs {
    /// Returns owner, mode and lists of a new inode in `parent`, by umask(2), acl(5) "object
    /// creation", and inode(7) on directories with the set-group-id bit.
    pub(super) fn new_inode(
        &self,
        ctx: Context,
        parent: &Inode,
        node: &NewNode,
    ) -> Result<NewInode> {
        let kind = node.mode & libc::S_IFMT;
        let directory = kind == libc::S_IFDIR;
        let parent_sees = self.stat(parent)?.guest;
        let mut want = Override {
            uid: ctx.uid,
            gid: ctx.gid,
            mode: node.mode & 0o7777,
            special: None,
        };
        if parent_sees.mode & libc::S_ISGID != 0 {
            want.gid = parent_sees.gid;
            if directory {
                want.mode |= libc::S_ISGID;
            }
        }
        let mut new = NewInode {
            want,
            directory,
            access_acl: None,
            default_acl: None,
        };
        if kind == libc::S_IFLNK {
            return Ok(new);
        }
        let list = self.read_stored(parent, STORED_DEFAULT_ACL)?;
        match Acl::parse_stored(list.as_deref()) {
            None => new.want.mode &= !(node.umask & 0o777),
            Some(acl) => {
                let access = acl.inherited(new.want.mode);
                new.want.mode = new.want.mode & !0o777 | access.mode();
                new.access_acl = (!access.is_mode_only()).then(|| access.format());
                new.default_acl = if directory { list } else { None };
            }
        }
        Ok(new)
    }

    /// Inserts an inode that was just created on the host, after setting what creating it could
    /// not.
    pub(super) fn insert_new(&self, fd: OwnedFd, new: &NewInode) -> Result<(Entry, Arc<Inode>)> {
        let stat = sys::statx(&fd)?;
        let inode = self.inodes.insert_or_ref(fd, &stat)?;
        self.initialize(&inode, stat, new)
            .map(|entry| (entry, Arc::clone(&inode)))
            .inspect_err(|_| self.inodes.forget(inode.id, 1))
    }

    fn initialize(&self, inode: &Inode, stat: Statx, new: &NewInode) -> Result<Entry> {
        let mut now = self.new_attributes(stat);
        let mut changed = false;
        if now.guest != new.want {
            match self.store(inode, &now, new.want) {
                Ok(()) => {}
                // Without user xattrs, all files belong to one guest user.
                Err(error)
                    if error.raw_os_error() == Some(libc::EPERM)
                        && new.want.special.is_none()
                        && !self.user_xattrs => {}
                Err(error) => return Err(error),
            }
            changed = true;
        }
        let lists = [
            (STORED_ACCESS_ACL, &new.access_acl),
            (STORED_DEFAULT_ACL, &new.default_acl),
        ];
        for (name, list) in lists {
            if let Some(list) = list {
                self.proc
                    .setxattr(&inode.fd, name, list, XattrFlags::empty())?;
                changed = true;
            }
        }
        if changed {
            now = self.stat(inode)?;
        }
        Ok(Entry {
            node: inode.id,
            attr: self.attr(&now),
            timeout: self.share.timeout,
            name_timeout: self.name_timeout(),
        })
    }

    /// Inserts an inode that was just created under `name`. Removes the name again if that
    /// fails.
    fn insert_new_name(&self, parent: &Inode, name: Name<'_>, new: &NewInode) -> Result<Entry> {
        sys::open_beneath(&parent.fd, name.as_c_str(), OFlags::PATH, Mode::empty())
            .and_then(|fd| self.insert_new(fd, new))
            .map(|(entry, _)| entry)
            .inspect_err(|_| {
                let flags = if new.directory {
                    AtFlags::REMOVEDIR
                } else {
                    AtFlags::empty()
                };
                let _ = self.remove(parent, name, flags);
            })
    }

    pub(super) fn create_symlink(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry> {
        let node = NewNode {
            mode: libc::S_IFLNK | 0o777,
            umask: 0,
            rdev: 0,
        };
        self.check_free(parent, name.as_c_str())?;
        let new = self.new_inode(ctx, parent, &node)?;
        self.with_access(&[parent], || {
            match rustix::fs::symlinkat(target, &parent.fd, name.as_c_str()) {
                // As from a file system that has no symbolic links (symlink(2)); some FUSE servers
                // answer as if the call did not exist.
                Err(Errno::NOSYS) => Err(errno(libc::EPERM)),
                result => Ok(result?),
            }
        })?;
        self.insert_new_name(parent, name, &new)
    }

    pub(super) fn create_directory(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        node: &NewNode,
    ) -> Result<Entry> {
        self.check_free(parent, name.as_c_str())?;
        let new = self.new_inode(ctx, parent, node)?;
        let mode = new.host_mode();
        self.with_access(&[parent], || {
            Ok(rustix::fs::mkdirat(&parent.fd, name.as_c_str(), mode)?)
        })?;
        self.insert_new_name(parent, name, &new)
    }

    /// Creates a regular file, FIFO, socket or device; the latter three as a stand-in, an empty
    /// regular file with an override, unless the host can have the real one.
    pub(super) fn create_node(
        &self,
        ctx: Context,
        parent: &Inode,
        name: Name<'_>,
        node: &NewNode,
    ) -> Result<Entry> {
        let kind = match node.mode & libc::S_IFMT {
            0 => libc::S_IFREG,
            kind @ (libc::S_IFREG
            | libc::S_IFIFO
            | libc::S_IFSOCK
            | libc::S_IFCHR
            | libc::S_IFBLK) => kind,
            _ => return Err(errno(libc::EINVAL)),
        };
        self.check_free(parent, name.as_c_str())?;
        let mut new = self.new_inode(ctx, parent, node)?;
        let dir = &parent.fd;
        let mode = new.host_mode();
        let pipe_or_socket = kind == libc::S_IFIFO || kind == libc::S_IFSOCK;
        // A real one cannot keep an override.
        let plain = Override {
            uid: self.share.guest_uid,
            gid: self.share.guest_gid,
            mode: mode.bits(),
            special: None,
        };
        if pipe_or_socket && (!self.user_xattrs || new.want == plain && new.access_acl.is_none()) {
            new.access_acl = None;
            let kind = FileType::from_raw_mode(kind);
            self.with_access(&[parent], || {
                Ok(rustix::fs::mknodat(dir, name.as_c_str(), kind, mode, 0)?)
            })?;
            return self.insert_new_name(parent, name, &new);
        }
        new.want.special = Special::new(kind, node.rdev);
        if new.want.special.is_some() && !self.user_xattrs {
            return Err(errno(libc::EPERM));
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        drop(self.with_access(&[parent], || {
            sys::open_beneath(dir, name.as_c_str(), flags, mode)
        })?);
        self.insert_new_name(parent, name, &new)
    }
}
