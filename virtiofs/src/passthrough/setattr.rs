//! SETATTR: size, then owner and mode, then times.

use std::io::Result;

use rustix::fs::{Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::access::without_set_id;
use super::fs::PassthroughFs;
use super::inodes::{Inode, NO_SET_ID};
use crate::fuse::abi::{SetattrIn, fattr};
use crate::fuse::filesystem::errno;

fn has(set: &SetattrIn, bits: u32) -> bool {
    set.valid & bits != 0
}

impl PassthroughFs {
    /// Changes what `set.valid` names.
    pub(super) fn set_attributes(&self, inode: &Inode, set: &SetattrIn) -> Result<()> {
        if has(set, fattr::SIZE) {
            self.set_size(inode, set)?;
        }
        if has(set, fattr::MODE | fattr::UID | fattr::GID) {
            self.set_owner_and_mode(inode, set)?;
        }
        let times = fattr::ATIME | fattr::MTIME | fattr::ATIME_NOW | fattr::MTIME_NOW;
        if has(set, times) {
            self.proc.utimens(&inode.fd, &timestamps(set))?;
        }
        Ok(())
    }

    fn set_size(&self, inode: &Inode, set: &SetattrIn) -> Result<()> {
        if !inode.is_file() {
            return Err(errno(if inode.is_dir() {
                libc::EISDIR
            } else {
                libc::EINVAL
            }));
        }
        self.drop_privileges(inode, has(set, fattr::KILL_SUIDGID))?;
        if has(set, fattr::FH) {
            let open = self.handles.get(set.fh, inode.id)?;
            return Ok(rustix::fs::ftruncate(&open.file, set.size)?);
        }
        self.with_access(&[inode], || self.proc.truncate(&inode.fd, set.size))
    }

    fn set_owner_and_mode(&self, inode: &Inode, set: &SetattrIn) -> Result<()> {
        let now = self.stat(inode)?;
        let mut want = now.guest;
        if has(set, fattr::UID) {
            want.uid = set.uid;
        }
        if has(set, fattr::GID) {
            want.gid = set.gid;
        }
        if has(set, fattr::UID | fattr::GID) && !inode.is_dir() {
            want.mode = without_set_id(want.mode);
            self.drop_privileges(inode, false)?;
        }
        if has(set, fattr::MODE) {
            if inode.kind == libc::S_IFLNK {
                return Err(errno(libc::EOPNOTSUPP));
            }
            want.mode = set.mode & 0o7777;
            inode.clear_facts(NO_SET_ID);
            self.chmod_acl(inode, want.mode)?;
        }
        self.store(inode, &now, want)
    }
}

fn timestamps(set: &SetattrIn) -> Timestamps {
    let time = |explicit, now, secs: u64, nanos: u32| Timespec {
        tv_sec: secs.cast_signed(),
        tv_nsec: match (has(set, now), has(set, explicit)) {
            (true, _) => UTIME_NOW,
            (_, true) => nanos.into(),
            _ => UTIME_OMIT,
        },
    };
    Timestamps {
        last_access: time(fattr::ATIME, fattr::ATIME_NOW, set.atime, set.atimensec),
        last_modification: time(fattr::MTIME, fattr::MTIME_NOW, set.mtime, set.mtimensec),
    }
}
