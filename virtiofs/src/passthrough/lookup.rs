//! LOOKUP, and the entry that answers every request for an inode.

use std::ffi::CStr;
use std::io::Result;
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, Statx};

use super::fs::PassthroughFs;
use super::inodes::Inode;
use super::sys;
use crate::fuse::filesystem::Entry;

impl PassthroughFs {
    /// Looks `name` up in the directory `parent`; takes one reference to the inode.
    pub(super) fn lookup_child(&self, parent: &Inode, name: &CStr) -> Result<Entry> {
        self.check_seen(parent, name)?;
        let since = SystemTime::now();
        let fd = self.with_access(&[parent], || {
            sys::open_beneath(&parent.fd, name, OFlags::PATH, Mode::empty())
        })?;
        let stat = sys::statx(&fd)?;
        let inode = self.inodes.insert_or_ref(fd, &stat)?;
        let stat = self
            .prefetch_override(&inode, stat, (parent, name), since)
            .inspect_err(|_| self.inodes.forget(inode.id, 1))?;
        self.entry(&inode, stat)
    }

    /// Returns the entry of an inode that a reference was taken to, or drops that reference.
    pub(super) fn entry(&self, inode: &Inode, stat: Statx) -> Result<Entry> {
        let attributes = self
            .attributes(inode, stat)
            .inspect_err(|_| self.inodes.forget(inode.id, 1))?;
        Ok(Entry {
            node: inode.id,
            attr: self.attr(&attributes),
            timeout: self.share.timeout,
            name_timeout: self.name_timeout(),
        })
    }
}
