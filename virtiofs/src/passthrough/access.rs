//! Access as the guest sees it, and the access that the host user needs for it.

use std::io::Result;

use super::fs::PassthroughFs;
use super::inodes::{Inode, NO_CAPABILITY, NO_SET_ID};
use super::override_stat::Override;
use super::overrides::host_mode;
use super::roots::is_root;
use crate::fuse::filesystem::{Context, errno};

/// `mode` without set-id bits, as chown and write leave it (inode(7)): set-group-id without
/// group execution is not a privilege.
pub(super) fn without_set_id(mode: u32) -> u32 {
    let mode = mode & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        mode & !libc::S_ISGID
    } else {
        mode
    }
}

impl PassthroughFs {
    /// Runs `operation`, which needs access to `inodes`. Permission is the guest kernel's
    /// decision: if the host refuses because of a mode of the host user's own file, the file
    /// gets a mode that allows it, and the guest still sees the old one; but not a share's root.
    pub(super) fn with_access<T>(
        &self,
        inodes: &[&Inode],
        operation: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let result = operation();
        match &result {
            Err(error) if error.raw_os_error() == Some(libc::EACCES) && !self.share.read_only => {}
            _ => return result,
        }
        let mut changed = false;
        for inode in inodes {
            if is_root(inode) {
                continue;
            }
            let now = self.stat(inode)?;
            let bits = host_mode(inode.is_dir(), now.host_mode());
            let own = now.stat.stx_uid == self.host_uid && inode.has_xattrs();
            if own && self.user_xattrs && bits != now.host_mode() {
                self.store(inode, &now, now.guest)?;
                changed = true;
            }
        }
        if changed { operation() } else { result }
    }

    /// ACCESS by the guest's owners and modes.
    pub(super) fn check_access(&self, ctx: Context, inode: &Inode, mask: u32) -> Result<()> {
        let Override {
            uid,
            gid,
            mode,
            special,
        } = self.stat(inode)?.guest;
        let wants = |bit: i32| mask & bit.cast_unsigned() != 0;
        let has_data = special.is_none() && inode.has_xattrs();
        if wants(libc::W_OK) && has_data {
            self.check_writable()?;
        }
        let granted = if ctx.uid == 0 {
            // Root may do anything but execute a file without any execute bit.
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

    /// Removes what writing to a file takes from it: its capabilities, and (`kill_set_id`) its
    /// set-id bits.
    pub(super) fn drop_privileges(&self, inode: &Inode, kill_set_id: bool) -> Result<()> {
        if !inode.is_file() {
            return Ok(());
        }
        if !inode.has_fact(NO_CAPABILITY) {
            self.remove_capability(inode)?;
            inode.set_facts(NO_CAPABILITY);
        }
        if kill_set_id && !inode.has_fact(NO_SET_ID) {
            let now = self.stat(inode)?;
            let mode = without_set_id(now.guest.mode);
            if mode != now.guest.mode {
                self.store(inode, &now, Override { mode, ..now.guest })?;
            }
            inode.set_facts(NO_SET_ID);
        }
        Ok(())
    }
}
