//! Names that the guest does not see ([`crate::hidden`]).

use std::ffi::CStr;
use std::io::Result;

use super::fs::PassthroughFs;
use super::inodes::Inode;
use crate::fuse::filesystem::errno;
use crate::hidden::DirectoryId;

impl PassthroughFs {
    /// Whether the guest does not see `name` in `directory`.
    pub(super) fn hides(&self, directory: &Inode, name: &CStr) -> bool {
        let id = DirectoryId {
            device: directory.dev(),
            inode: directory.ino(),
        };
        self.share.hidden.has(id, name)
    }

    /// Fails with `ENOENT` if the guest does not see `name` in `directory`.
    pub(super) fn check_seen(&self, directory: &Inode, name: &CStr) -> Result<()> {
        if self.hides(directory, name) {
            return Err(errno(libc::ENOENT));
        }
        Ok(())
    }

    /// Fails with `EACCES` if the guest cannot have a new `name` in `directory`, as the host has what the
    /// guest does not see.
    pub(super) fn check_free(&self, directory: &Inode, name: &CStr) -> Result<()> {
        if self.hides(directory, name) {
            return Err(errno(libc::EACCES));
        }
        Ok(())
    }
}
