//! UNLINK, RMDIR, RENAME and LINK.

use std::io::Result;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, XattrFlags};

use super::fs::PassthroughFs;
use super::inodes::Inode;
use super::override_stat::{Override, Special, XATTR};
use super::sys;
use crate::fuse::filesystem::{Context, Entry, errno};
use crate::fuse::name::Name;

impl PassthroughFs {
    /// Removes a name of anything but a directory, or with `AtFlags::REMOVEDIR` an empty
    /// directory.
    pub(super) fn remove(&self, parent: &Inode, name: Name<'_>, flags: AtFlags) -> Result<()> {
        self.check_seen(parent, name.as_c_str())?;
        self.with_access(&[parent], || {
            Ok(rustix::fs::unlinkat(&parent.fd, name.as_c_str(), flags)?)
        })
    }

    /// Renames with the flags of renameat2(2).
    pub(super) fn rename_name(
        &self,
        ctx: Context,
        (from, name): (&Inode, Name<'_>),
        (to, new_name): (&Inode, Name<'_>),
        flags: u32,
    ) -> Result<()> {
        let flags = RenameFlags::from_bits_retain(flags);
        let (name, new_name) = (name.as_c_str(), new_name.as_c_str());
        self.check_seen(from, name)?;
        self.check_free(to, new_name)?;
        let rename = |flags| {
            self.with_access(&[from, to], || {
                Ok(rustix::fs::renameat_with(
                    &from.fd, name, &to.fd, new_name, flags,
                )?)
            })
        };
        if (RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return rename(flags);
        }
        let host_flags = flags - RenameFlags::WHITEOUT;
        if !RenameFlags::NOREPLACE.contains(host_flags) {
            return Err(errno(libc::EINVAL));
        }
        let whiteout = self.new_whiteout(ctx, from)?;
        rename(host_flags)?;
        self.proc
            .link(&whiteout, &from.fd, name)
            .inspect_err(|error| {
                // What was below `new_name` is gone, but nothing shows through `name`.
                log::debug!("no whiteout after a renaming: {error}");
                let _ = rustix::fs::renameat_with(
                    &to.fd,
                    new_name,
                    &from.fd,
                    name,
                    RenameFlags::NOREPLACE,
                );
            })
    }

    /// Creates what RENAME_WHITEOUT leaves behind, in the file system of `dir` and still without a
    /// name: the stand-in for the character device 0:0, by which overlayfs knows a removed name. A
    /// real one would be a device on the host. `EINVAL`, as from a file system that knows no such
    /// flag, where the host has no O_TMPFILE or no user xattrs.
    fn new_whiteout(&self, ctx: Context, dir: &Inode) -> Result<OwnedFd> {
        if !self.user_xattrs {
            return Err(errno(libc::EINVAL));
        }
        let flags = OFlags::TMPFILE | OFlags::WRONLY;
        let file = self.with_access(&[dir], || {
            self.proc.reopen(&dir.fd, flags, Mode::RUSR | Mode::WUSR)
        });
        let file = file.map_err(|error| match error.raw_os_error() {
            // EISDIR: as open(2) on a file system without O_TMPFILE in some kernels.
            Some(libc::EOPNOTSUPP | libc::EISDIR) => errno(libc::EINVAL),
            _ => error,
        })?;
        let device = Override {
            uid: ctx.uid,
            gid: ctx.gid,
            mode: 0,
            special: Some(Special::Char(0, 0)),
        };
        self.proc
            .setxattr(&file, XATTR, &device.format(false), XattrFlags::empty())?;
        Ok(file)
    }

    /// Adds the name `new_name` in `dir` for anything but a directory.
    pub(super) fn link_name(
        &self,
        inode: &Arc<Inode>,
        dir: &Inode,
        new_name: Name<'_>,
    ) -> Result<Entry> {
        if inode.is_dir() {
            return Err(errno(libc::EPERM));
        }
        self.check_free(dir, new_name.as_c_str())?;
        self.proc.link(&inode.fd, &dir.fd, new_name.as_c_str())?;
        let stat = sys::statx(&inode.fd)?;
        self.inodes.ref_again(inode);
        self.entry(inode, stat)
    }
}
