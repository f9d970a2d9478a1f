//! Removing, renaming and adding names.

use std::io::Result;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};

use super::table::Inode;
use super::{PassthroughFs, sys};
use crate::fuse::filesystem::{Entry, errno};
use crate::fuse::name::Name;

impl PassthroughFs {
    pub(super) fn remove(&self, parent: &Inode, name: Name<'_>, flags: AtFlags) -> Result<()> {
        self.with_access(&[parent], || {
            Ok(rustix::fs::unlinkat(&parent.fd, name.as_c_str(), flags)?)
        })
    }

    pub(super) fn move_name(
        &self,
        from: &Inode,
        name: Name<'_>,
        to: &Inode,
        new_name: Name<'_>,
        flags: u32,
    ) -> Result<()> {
        // RENAME_WHITEOUT would leave a device on the host.
        let flags = RenameFlags::from_bits_retain(flags);
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(errno(libc::EINVAL));
        }
        self.with_access(&[from, to], || {
            let (from, to) = (&from.fd, &to.fd);
            let (name, new_name) = (name.as_c_str(), new_name.as_c_str());
            Ok(rustix::fs::renameat_with(from, name, to, new_name, flags)?)
        })
    }

    pub(super) fn add_name(
        &self,
        inode: &Arc<Inode>,
        dir: &Inode,
        new_name: Name<'_>,
    ) -> Result<Entry> {
        if inode.is_dir() {
            return Err(errno(libc::EPERM));
        }
        let fd = &inode.fd;
        self.proc.link(fd, &dir.fd, new_name.as_c_str())?;
        let stat = sys::statx(fd)?;
        self.inodes.again(inode);
        self.known_entry(inode, &stat)
    }
}
