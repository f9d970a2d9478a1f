//! What stat shows the guest, and how chown, chmod and their kin are kept.

use std::ffi::CStr;
use std::io::Result;
use std::os::fd::AsFd;
use std::sync::PoisonError;
use std::time::SystemTime;

use rustix::fs::{Statx, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags};

use super::override_stat::{self, Override, Special, encode_dev};
use super::table::{FastMap, Inode, NO_CAPABILITY, NO_SET_ID};
use super::{PassthroughFs, sys, xattr};
use crate::fuse::abi::{Attr, SetattrIn, fattr};
use crate::fuse::filesystem::{Context, errno};

/// Owners of inodes without extended attributes that are kept at most; bounds the memory that a
/// guest can take.
const MAX_VOLATILE: usize = 1 << 18;

/// Ids of an inode that lasts: device, inode number and birth time, which tells a file from a
/// later one with the same number.
type Identity = (u64, u64, u64);

/// Owners and modes of inodes that cannot have extended attributes.
pub(super) type Volatile = FastMap<Identity, Override>;

fn identity(stat: &Statx) -> Identity {
    let dev = (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor);
    let born = stat.stx_btime.tv_sec.cast_unsigned() << 30;
    (dev, stat.stx_ino, born ^ u64::from(stat.stx_btime.tv_nsec))
}

/// An inode's stat on the host and what the guest is to see instead.
pub(super) struct Metadata {
    pub(super) stat: Statx,
    pub(super) replaced: Option<Override>,
    /// What the guest sees.
    pub(super) seen: Override,
}

impl Metadata {
    fn host_mode(&self) -> u32 {
        u32::from(self.stat.stx_mode) & 0o7777
    }

    fn kind(&self) -> u32 {
        u32::from(self.stat.stx_mode) & libc::S_IFMT
    }
}

/// The bits that a file of the guest with this mode gets on the host.
pub(super) fn host_mode(directory: bool, mode: u32) -> u32 {
    mode & 0o777 | if directory { 0o700 } else { 0o600 }
}

/// `mode` without set-id bits, as chown and write leave it (inode(7)): set-group-id without
/// group execution is not a privilege.
fn without_set_id(mode: u32) -> u32 {
    let mode = mode & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        mode & !libc::S_ISGID
    } else {
        mode
    }
}

impl PassthroughFs {
    /// An inode's present metadata.
    pub(super) fn stat(&self, inode: &Inode) -> Result<Metadata> {
        let stat = sys::statx(&inode.fd)?;
        self.metadata(inode, stat)
    }

    /// The metadata of an inode whose stat is known.
    pub(super) fn metadata(&self, inode: &Inode, stat: Statx) -> Result<Metadata> {
        let replaced = if !inode.has_xattrs() {
            let volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
            if volatile.is_empty() {
                None
            } else {
                volatile.get(&identity(&stat)).copied()
            }
        } else if !self.user_xattrs {
            None
        } else if let Some(replaced) = inode.replaced(&stat) {
            replaced
        } else {
            let now = SystemTime::now();
            let replaced = self.read_override(inode)?;
            inode.remember(&stat, now, replaced);
            replaced
        };
        let seen = match replaced {
            // Only an empty stand-in can have another type.
            Some(over) if inode.is_file() => over,
            Some(over) => Override {
                special: None,
                ..over
            },
            None => self.plain(&stat),
        };
        Ok(Metadata {
            stat,
            replaced,
            seen,
        })
    }

    fn read_override(&self, inode: &Inode) -> Result<Option<Override>> {
        let mut value = [0; override_stat::MAX_LEN];
        let fd = &inode.fd;
        match self.proc.getxattr(fd, override_stat::XATTR, &mut value) {
            Ok(len) => Ok(value.get(..len).and_then(Override::parse)),
            // ERANGE: too long to be one. EACCES: the host user may not read the file, and
            // then neither its attributes.
            Err(error) => match error.raw_os_error() {
                Some(libc::ENODATA | libc::EOPNOTSUPP | libc::ERANGE | libc::EACCES) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// The metadata of an inode that has no override for sure.
    pub(super) fn without_override(&self, stat: Statx) -> Metadata {
        Metadata {
            seen: self.plain(&stat),
            replaced: None,
            stat,
        }
    }

    /// What the guest sees of a file without override.
    fn plain(&self, stat: &Statx) -> Override {
        let own = stat.stx_uid == self.host_uid;
        Override {
            uid: if own {
                self.config.guest_uid
            } else {
                stat.stx_uid
            },
            gid: if own {
                self.config.guest_gid
            } else {
                stat.stx_gid
            },
            mode: u32::from(stat.stx_mode) & 0o7777,
            special: None,
        }
    }

    /// In the protocol's form.
    pub(super) fn attr(&self, meta: &Metadata) -> Attr {
        let stat = &meta.stat;
        let dev = (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor);
        let (kind, rdev) = match meta.seen.special {
            Some(special) => special.type_and_rdev(),
            None => (
                meta.kind(),
                encode_dev(stat.stx_rdev_major, stat.stx_rdev_minor),
            ),
        };
        Attr {
            ino: self.guest_ino(dev, stat.stx_ino),
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            atime: stat.stx_atime.tv_sec.cast_unsigned(),
            mtime: stat.stx_mtime.tv_sec.cast_unsigned(),
            ctime: stat.stx_ctime.tv_sec.cast_unsigned(),
            atimensec: stat.stx_atime.tv_nsec,
            mtimensec: stat.stx_mtime.tv_nsec,
            ctimensec: stat.stx_ctime.tv_nsec,
            mode: kind | meta.seen.mode,
            nlink: stat.stx_nlink,
            uid: meta.seen.uid,
            gid: meta.seen.gid,
            rdev,
            blksize: stat.stx_blksize,
            flags: 0,
        }
    }

    /// An inode number that is unique in the share: the host's, mixed with the number of its
    /// file system if that is not the root's.
    pub(super) fn guest_ino(&self, dev: u64, ino: u64) -> u64 {
        ino ^ (self.device_index(dev) << 48)
    }

    /// A device number for the guest's inode numbers: 0 for the root's, others count up.
    fn device_index(&self, dev: u64) -> u64 {
        if dev == self.inodes.root_dev() {
            return 0;
        }
        let place = |devices: &Vec<u64>| devices.iter().position(|known| *known == dev);
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = place(&devices) {
            return index as u64 + 1;
        }
        drop(devices);
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = place(&devices) {
            return index as u64 + 1;
        }
        devices.push(dev);
        devices.len() as u64
    }

    /// Makes the guest see `want` from now on.
    pub(super) fn store(&self, inode: &Inode, meta: &Metadata, want: Override) -> Result<()> {
        let fd = &inode.fd;
        if !inode.has_xattrs() {
            return self.store_volatile(inode, meta, want);
        }
        let bits = host_mode(inode.is_dir(), want.mode);
        let plain = self.plain(&meta.stat);
        let want_host = Override {
            mode: bits,
            ..plain
        };
        if self.user_xattrs {
            let mut changed = false;
            if meta.host_mode() != bits {
                self.proc.chmod(fd, bits)?;
                changed = true;
            }
            if want != want_host {
                let value = want.format(inode.is_dir());
                return match self.proc.setxattr(
                    fd,
                    override_stat::XATTR,
                    &value,
                    XattrFlags::empty(),
                ) {
                    Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => Err(errno(libc::EPERM)),
                    result => result,
                };
            }
            if meta.replaced.is_some() {
                xattr::absent_is_fine(self.proc.removexattr(fd, override_stat::XATTR))?;
            } else if !changed {
                // Nothing to do but to let the change time move.
                self.proc.chmod(fd, bits)?;
            }
            return Ok(());
        }
        if (want.uid, want.gid) != (plain.uid, plain.gid) || want.special.is_some() {
            return Err(errno(libc::EPERM));
        }
        self.proc.chmod(fd, bits)
    }

    fn store_volatile(&self, inode: &Inode, meta: &Metadata, want: Override) -> Result<()> {
        let native = inode.kind == libc::S_IFIFO || inode.kind == libc::S_IFSOCK;
        let mut plain = self.plain(&meta.stat);
        if native {
            plain.mode = host_mode(false, want.mode);
        }
        let identity = identity(&meta.stat);
        let mut volatile = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
        if want == plain {
            volatile.remove(&identity);
        } else if volatile.len() < MAX_VOLATILE || volatile.contains_key(&identity) {
            volatile.insert(identity, want);
        } else {
            return Err(errno(libc::ENOSPC));
        }
        drop(volatile);
        if native && meta.host_mode() != host_mode(false, want.mode) {
            self.proc.chmod(&inode.fd, host_mode(false, want.mode))?;
        } else {
            // Lets the change time move: sets the access time to what it is.
            let times = Timestamps {
                last_access: Timespec {
                    tv_sec: meta.stat.stx_atime.tv_sec,
                    tv_nsec: meta.stat.stx_atime.tv_nsec.into(),
                },
                last_modification: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
            };
            // Only for the looks; the files of other users refuse it.
            let _ = self.proc.utimens(&inode.fd, &times);
        }
        Ok(())
    }

    /// SETATTR: size, then owner and mode, then times.
    pub(super) fn change(&self, ctx: Context, inode: &Inode, set: &SetattrIn) -> Result<()> {
        let valid = |bit| set.valid & bit != 0;
        if valid(fattr::SIZE) {
            self.resize(inode, set)?;
        }
        if valid(fattr::MODE | fattr::UID | fattr::GID) {
            self.change_owner(ctx, inode, set)?;
        }
        if valid(fattr::ATIME | fattr::MTIME | fattr::ATIME_NOW | fattr::MTIME_NOW) {
            let time = |explicit, now, secs: u64, nanos: u32| Timespec {
                tv_sec: secs.cast_signed(),
                tv_nsec: match (valid(now), valid(explicit)) {
                    (true, _) => UTIME_NOW,
                    (_, true) => nanos.into(),
                    _ => UTIME_OMIT,
                },
            };
            let times = Timestamps {
                last_access: time(fattr::ATIME, fattr::ATIME_NOW, set.atime, set.atimensec),
                last_modification: time(fattr::MTIME, fattr::MTIME_NOW, set.mtime, set.mtimensec),
            };
            self.proc.utimens(&inode.fd, &times)?;
        }
        Ok(())
    }

    fn resize(&self, inode: &Inode, set: &SetattrIn) -> Result<()> {
        if !inode.is_file() {
            return Err(errno(if inode.is_dir() {
                libc::EISDIR
            } else {
                libc::EINVAL
            }));
        }
        self.drop_privileges(inode, set.valid & fattr::KILL_SUIDGID != 0)?;
        if set.valid & fattr::FH != 0 {
            let open = self.handles.get(set.fh, inode.id)?;
            return Ok(rustix::fs::ftruncate(&open.file, set.size)?);
        }
        self.with_access(&[inode], || self.proc.truncate(&inode.fd, set.size))
    }

    fn change_owner(&self, _: Context, inode: &Inode, set: &SetattrIn) -> Result<()> {
        let valid = |bit| set.valid & bit != 0;
        let meta = self.stat(inode)?;
        let mut want = meta.seen;
        if valid(fattr::UID) {
            want.uid = set.uid;
        }
        if valid(fattr::GID) {
            want.gid = set.gid;
        }
        if valid(fattr::UID | fattr::GID) && !inode.is_dir() {
            want.mode = without_set_id(want.mode);
            self.drop_privileges(inode, false)?;
        }
        if valid(fattr::MODE) {
            if inode.kind == libc::S_IFLNK {
                return Err(errno(libc::EOPNOTSUPP));
            }
            want.mode = set.mode & 0o7777;
            inode.unlearn(NO_SET_ID);
            self.chmod_acl(inode, want.mode)?;
        }
        self.store(inode, &meta, want)
    }

    /// What writing to a file takes from it: its capabilities, and (`kill_set_id`) the bits that
    /// let it run as somebody else.
    pub(super) fn drop_privileges(&self, inode: &Inode, kill_set_id: bool) -> Result<()> {
        if !inode.is_file() {
            return Ok(());
        }
        if !inode.knows(NO_CAPABILITY) {
            self.remove_capability(inode)?;
            inode.learn(NO_CAPABILITY);
        }
        if kill_set_id && !inode.knows(NO_SET_ID) {
            let meta = self.stat(inode)?;
            let mode = without_set_id(meta.seen.mode);
            if mode != meta.seen.mode {
                self.store(inode, &meta, Override { mode, ..meta.seen })?;
            }
            inode.learn(NO_SET_ID);
        }
        Ok(())
    }

    /// Does `operation`, which needs access to `inodes`. Who may what is decided by the guest's
    /// kernel; a file of the host user's own whose mode does not let him in gets a mode that
    /// does, and the guest goes on seeing the old one.
    pub(super) fn with_access<T>(
        &self,
        inodes: &[&Inode],
        operation: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let result = operation();
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) && !self.config.read_only => {}
            _ => return result,
        }
        let mut opened = false;
        for inode in inodes {
            let meta = self.stat(inode)?;
            let bits = host_mode(inode.is_dir(), meta.host_mode());
            let own = meta.stat.stx_uid == self.host_uid && inode.has_xattrs();
            if own && self.user_xattrs && bits != meta.host_mode() {
                self.store(inode, &meta, meta.seen)?;
                opened = true;
            }
        }
        if opened { operation() } else { result }
    }

    /// ACCESS with the guest's owners and modes.
    pub(super) fn check_access(&self, ctx: Context, inode: &Inode, mask: u32) -> Result<()> {
        let Override {
            uid,
            gid,
            mode,
            special,
        } = self.stat(inode)?.seen;
        let wants = |bit: i32| mask & bit.cast_unsigned() != 0;
        let data = special.is_none() && inode.has_xattrs();
        if wants(libc::W_OK) && data {
            self.check_writable()?;
        }
        let granted = if ctx.uid == 0 {
            // Root may all but execute a file that nobody may execute.
            if inode.is_dir() || mode & 0o111 != 0 {
                0o7
            } else {
                0o6
            }
        } else if ctx.uid == uid {
            mode >> 6
        } else if ctx.gid == gid {
            mode >> 3
        } else {
            mode
        };
        if mask & 0o7 & !granted == 0 {
            Ok(())
        } else {
            Err(errno(libc::EACCES))
        }
    }

    /// A stand-in's type for the guest, of a directory entry that is a regular file on the host.
    pub(super) fn entry_special(&self, dir: impl AsFd, name: &CStr) -> Option<Option<Special>> {
        if !self.user_xattrs {
            return Some(None);
        }
        let replaced = self.override_in(dir, name)?;
        Some(replaced.and_then(|replaced| replaced.special))
    }

    /// The override of what has this name now, or `None` if that cannot be told by name.
    fn override_in(&self, dir: impl AsFd, name: &CStr) -> Option<Option<Override>> {
        let mut value = [0; override_stat::MAX_LEN];
        match self
            .proc
            .getxattr_in(dir, name, override_stat::XATTR, &mut value)
        {
            Ok(len) => Some(value.get(..len).and_then(Override::parse)),
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Some(None),
            Err(_) => None,
        }
    }

    /// Reads the override of an inode that was opened by this name after the time `since`.
    ///
    /// By name that takes much less time than by descriptor, which is a way through `/proc`.
    /// That the name still led to this inode is certain if the inode's change time is older, as
    /// renaming and unlinking move it; otherwise nothing is remembered, and it will be read by
    /// descriptor. Returns the inode's stat from after the reading.
    pub(super) fn foresee(
        &self,
        inode: &Inode,
        stat: Statx,
        (parent, name): (&Inode, &CStr),
        since: SystemTime,
    ) -> Result<Statx> {
        if !self.user_xattrs || !inode.has_xattrs() || inode.replaced(&stat).is_some() {
            return Ok(stat);
        }
        let Some(replaced) = self.override_in(&parent.fd, name) else {
            return Ok(stat);
        };
        let stat = sys::statx(&inode.fd)?;
        inode.remember(&stat, since, replaced);
        Ok(stat)
    }
}
