//! UNLINK, RMDIR, RENAME and LINK.

use std::io::Result;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags};

use super::fs::PassthroughFs;
use super::inodes::Inode;
use super::sys;
use crate::fuse::filesystem::{Entry, errno};
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
        (from, name): (&Inode, Name<'_>),
        (to, new_name): (&Inode, Name<'_>),
        flags: u32,
    ) -> Result<()> {
        // RENAME_WHITEOUT would create a device on the host.
        let flags = RenameFlags::from_bits_retain(flags);
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(errno(libc::EINVAL));
        }
        let (name, new_name) = (name.as_c_str(), new_name.as_c_str());
        self.check_seen(from, name)?;
        self.check_free(to, new_name)?;
        self.with_access(&[from, to], || {
            Ok(rustix::fs::renameat_with(
                &from.fd, name, &to.fd, new_name, flags,
            )?)
        })
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
