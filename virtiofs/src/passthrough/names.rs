//! Removing, renaming and adding names.

use std::io::Result;
use std::sync::Arc;

use super::table::Inode;
use super::{PassthroughFs, sys};
use crate::fuse::filesystem::{Entry, errno};
use crate::fuse::name::Name;

impl PassthroughFs {
    pub(super) fn remove(&self, parent: &Inode, name: Name<'_>, flags: i32) -> Result<()> {
        self.with_access(&[parent], || {
            sys::unlink(sys::borrow(&parent.fd), name.as_c_str(), flags)
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
        if flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
            return Err(errno(libc::EINVAL));
        }
        self.with_access(&[from, to], || {
            let (from, to) = (sys::borrow(&from.fd), sys::borrow(&to.fd));
            sys::rename(from, name.as_c_str(), to, new_name.as_c_str(), flags)
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
        let fd = sys::borrow(&inode.fd);
        self.proc
            .link(fd, sys::borrow(&dir.fd), new_name.as_c_str())?;
        let stat = sys::statx(fd)?;
        self.inodes.again(inode);
        self.known_entry(inode, &stat)
    }
}
