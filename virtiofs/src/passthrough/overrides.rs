//! Owner, mode and type that the host user cannot set: reading and storing them.

use std::ffi::CStr;
use std::io::Result;
use std::os::fd::AsFd;
use std::time::SystemTime;

use rustix::fs::{Statx, Timespec, Timestamps, UTIME_OMIT, XattrFlags};

use super::attributes::Attributes;
use super::fs::PassthroughFs;
use super::inodes::Inode;
use super::override_stat::{MAX_LEN, Override, Special, XATTR};
use super::roots::is_root;
use super::sys;
use crate::fuse::filesystem::errno;

/// Permission bits on the host for a mode of the guest: the host user keeps access.
pub(super) fn host_mode(directory: bool, mode: u32) -> u32 {
    mode & 0o777 | if directory { 0o700 } else { 0o600 }
}

impl PassthroughFs {
    /// Reads the override of a regular file or directory.
    pub(super) fn read_override(&self, inode: &Inode) -> Result<Option<Override>> {
        let mut value = [0; MAX_LEN];
        match self.proc.getxattr(&inode.fd, XATTR, &mut value) {
            Ok(len) => Ok(value.get(..len).and_then(Override::parse)),
            // ERANGE: longer than any override. EACCES: the host user may not read the file, so
            // not its attributes either.
            Err(error) => match error.raw_os_error() {
                Some(libc::ENODATA | libc::EOPNOTSUPP | libc::ERANGE | libc::EACCES) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Reads the override of the file that has this name now; the outer `None` if that is not
    /// possible by name.
    fn read_override_in(&self, dir: impl AsFd, name: &CStr) -> Option<Option<Override>> {
        let mut value = [0; MAX_LEN];
        match self.proc.getxattr_in(dir, name, XATTR, &mut value) {
            Ok(len) => Some(value.get(..len).and_then(Override::parse)),
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Some(None),
            Err(_) => None,
        }
    }

    /// Returns the type for the guest of a directory entry that is a regular file on the host,
    /// if it is a stand-in; the outer `None` if that cannot be told by name.
    pub(super) fn special_type_in(&self, dir: impl AsFd, name: &CStr) -> Option<Option<Special>> {
        if !self.user_xattrs {
            return Some(None);
        }
        let stored = self.read_override_in(dir, name)?;
        Some(stored.and_then(|stored| stored.special))
    }

    /// Caches the override of an inode that was opened by this name after the time `since`.
    ///
    /// Reading it by name is much faster than by descriptor, which goes through `/proc`. The
    /// name certainly still led to this inode if the inode's change time is older, as renaming
    /// and unlinking move it; otherwise nothing is cached, and it will be read by descriptor.
    /// Returns the inode's stat from after the reading.
    pub(super) fn prefetch_override(
        &self,
        inode: &Inode,
        stat: Statx,
        (parent, name): (&Inode, &CStr),
        since: SystemTime,
    ) -> Result<Statx> {
        if !self.user_xattrs || !inode.has_xattrs() || inode.cached_override(&stat).is_some() {
            return Ok(stat);
        }
        let Some(stored) = self.read_override_in(&parent.fd, name) else {
            return Ok(stat);
        };
        let stat = sys::statx(&inode.fd)?;
        inode.cache_override(&stat, since, stored);
        Ok(stat)
    }

    /// Makes the guest see `want` from now on.
    pub(super) fn store(&self, inode: &Inode, now: &Attributes, want: Override) -> Result<()> {
        if !inode.has_xattrs() {
            return self.store_transient(inode, now, want);
        }
        if is_root(inode) {
            return self.store_root(inode, now, want);
        }
        let bits = host_mode(inode.is_dir(), want.mode);
        let plain = self.without_override(&now.stat);
        if !self.user_xattrs {
            if (want.uid, want.gid) != (plain.uid, plain.gid) || want.special.is_some() {
                return Err(errno(libc::EPERM));
            }
            return self.proc.chmod(&inode.fd, bits);
        }
        let needs_chmod = now.host_mode() != bits;
        if needs_chmod {
            self.proc.chmod(&inode.fd, bits)?;
        }
        if want
            != (Override {
                mode: bits,
                ..plain
            })
        {
            return self.write_override(inode, want);
        }
        if now.stored.is_some() {
            sys::ignore_absent(self.proc.removexattr(&inode.fd, XATTR))?;
        } else if !needs_chmod {
            // Nothing to change; this only moves the change time.
            self.proc.chmod(&inode.fd, bits)?;
        }
        Ok(())
    }

    /// Makes the guest see `want` on the root of a share, whose mode on the host stays.
    fn store_root(&self, inode: &Inode, now: &Attributes, want: Override) -> Result<()> {
        let plain = want == self.without_override(&now.stat);
        match (self.user_xattrs, plain) {
            (true, false) => return self.write_override(inode, want),
            (true, true) if now.stored.is_some() => {
                return sys::ignore_absent(self.proc.removexattr(&inode.fd, XATTR));
            }
            (true, true) => {}
            (false, false) => self.transient.set(&now.stat, want)?,
            (false, true) => self.transient.remove(&now.stat),
        }
        self.move_change_time(inode, &now.stat);
        Ok(())
    }

    /// Writes the override of a regular file or directory.
    fn write_override(&self, inode: &Inode, want: Override) -> Result<()> {
        let value = want.format(inode.is_dir());
        let flags = XattrFlags::empty();
        match self.proc.setxattr(&inode.fd, XATTR, &value, flags) {
            Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(errno(libc::EPERM)),
            result => result,
        }
    }

    fn store_transient(&self, inode: &Inode, now: &Attributes, want: Override) -> Result<()> {
        let stat = &now.stat;
        let native = inode.kind == libc::S_IFIFO || inode.kind == libc::S_IFSOCK;
        let bits = host_mode(false, want.mode);
        let mut plain = self.without_override(stat);
        if native {
            plain.mode = bits;
        }
        if want == plain {
            self.transient.remove(stat);
        } else {
            self.transient.set(stat, want)?;
        }
        if native && now.host_mode() != bits {
            return self.proc.chmod(&inode.fd, bits);
        }
        self.move_change_time(inode, stat);
        Ok(())
    }

    /// Moves the change time, by setting the access time to what it is.
    fn move_change_time(&self, inode: &Inode, stat: &Statx) {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: stat.stx_atime.tv_sec,
                tv_nsec: stat.stx_atime.tv_nsec.into(),
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
        };
        // Only cosmetic, and refused for other users' files.
        let _ = self.proc.utimens(&inode.fd, &times);
    }
}
