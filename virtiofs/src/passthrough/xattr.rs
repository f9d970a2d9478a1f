//! Extended attributes of the guest.
//!
//! `user.*` are the host's. The classes that an ordinary host user cannot set are kept with the
//! prefix `user.virtiofs.`, as the virtiofsd documentation proposes (`doc/xattr-mapping.md`).

use std::ffi::{CStr, CString};
use std::io::Result;

use rustix::fs::XattrFlags;

use super::PassthroughFs;
use super::acl::Acl;
use super::override_stat::{self, Override};
use super::table::{Inode, NO_CAPABILITY, NO_SET_ID};
use crate::fuse::filesystem::{Context, XattrReply, errno};

const PREFIX: &[u8] = b"user.virtiofs.";
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";
/// The host's name of the guest's access control list.
pub(super) const STORED_ACCESS_ACL: &CStr = c"user.virtiofs.system.posix_acl_access";
/// The host's name of the guest's default access control list.
pub(super) const STORED_DEFAULT_ACL: &CStr = c"user.virtiofs.system.posix_acl_default";
const STORED_CAPABILITY: &CStr = c"user.virtiofs.security.capability";

/// Success if there was nothing to remove.
pub(super) fn absent_is_fine(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => {
            Ok(())
        }
        result => result,
    }
}

/// Where an attribute of the guest is on the host.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Under this name.
    Host(CString),
    /// Nowhere: the name is one of ours.
    Reserved,
    /// Nowhere: there is no such class.
    Unknown,
}

fn place(name: &CStr) -> Place {
    let bytes = name.to_bytes();
    if bytes == override_stat::XATTR.to_bytes() || bytes.starts_with(PREFIX) {
        return Place::Reserved;
    }
    if bytes.starts_with(b"user.") {
        return Place::Host(name.to_owned());
    }
    let kept = bytes.starts_with(b"security.")
        || bytes.starts_with(b"trusted.")
        || bytes == ACCESS_ACL
        || bytes == DEFAULT_ACL;
    if !kept {
        return Place::Unknown;
    }
    // No NUL in either part.
    CString::new([PREFIX, bytes].concat()).map_or(Place::Unknown, Place::Host)
}

impl PassthroughFs {
    /// One of our own attributes of a regular file or directory, if it is set.
    pub(super) fn stored(&self, inode: &Inode, name: &CStr) -> Result<Option<Vec<u8>>> {
        if !self.user_xattrs || !inode.has_xattrs() {
            return Ok(None);
        }
        match self.value(inode, name) {
            Ok(value) => Ok(Some(value)),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENODATA | libc::EOPNOTSUPP | libc::EACCES)
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn value(&self, inode: &Inode, name: &CStr) -> Result<Vec<u8>> {
        let fd = &inode.fd;
        // Most values are small; a larger one costs a second call.
        let mut value = vec![0; 256];
        loop {
            match self.proc.getxattr(fd, name, &mut value) {
                Ok(len) => {
                    value.truncate(len);
                    return Ok(value);
                }
                // XATTR_SIZE_MAX (Linux uapi/linux/limits.h)
                Err(e) if e.raw_os_error() == Some(libc::ERANGE) && value.len() < 65536 => {
                    value.resize(65536, 0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn attribute(&self, inode: &Inode, name: &CStr, size: u32) -> Result<XattrReply> {
        match place(name) {
            Place::Unknown => Err(errno(libc::EOPNOTSUPP)),
            Place::Reserved => Err(errno(libc::ENODATA)),
            Place::Host(_) if !inode.has_xattrs() => Err(errno(libc::ENODATA)),
            Place::Host(host) => XattrReply::fit(self.value(inode, &host)?, size),
        }
    }

    pub(super) fn attribute_names(&self, inode: &Inode) -> Result<Vec<u8>> {
        if !inode.has_xattrs() {
            return Ok(Vec::new());
        }
        let list = match self.proc.listxattr(&inode.fd) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
            list => list?,
        };
        let mut names = Vec::new();
        for name in list.split_inclusive(|byte| *byte == 0) {
            let own = name.strip_suffix(b"\0") == Some(override_stat::XATTR.to_bytes());
            if let Some(guest) = name.strip_prefix(PREFIX) {
                names.extend_from_slice(guest);
            } else if name.starts_with(b"user.") && !own {
                names.extend_from_slice(name);
            }
        }
        Ok(names)
    }

    pub(super) fn set_attribute(
        &self,
        _: Context,
        inode: &Inode,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        let host = match place(name) {
            Place::Unknown => return Err(errno(libc::EOPNOTSUPP)),
            Place::Reserved => return Err(errno(libc::EPERM)),
            Place::Host(_) if !inode.has_xattrs() => {
                let user = name.to_bytes().starts_with(b"user.");
                return Err(errno(if user { libc::EPERM } else { libc::EOPNOTSUPP }));
            }
            Place::Host(host) => host,
        };
        match name.to_bytes() {
            ACCESS_ACL => return self.set_access_acl(inode, value, kill_sgid),
            DEFAULT_ACL => return self.set_default_acl(inode, value),
            CAPABILITY => inode.unlearn(NO_CAPABILITY),
            _ => {}
        }
        self.proc
            .setxattr(&inode.fd, &host, value, XattrFlags::from_bits_retain(flags))
    }

    pub(super) fn remove_attribute(&self, inode: &Inode, name: &CStr) -> Result<()> {
        match place(name) {
            Place::Unknown => Err(errno(libc::EOPNOTSUPP)),
            Place::Reserved => Err(errno(libc::EPERM)),
            Place::Host(_) if !inode.has_xattrs() => Err(errno(libc::ENODATA)),
            Place::Host(host) => {
                let fd = &inode.fd;
                self.with_access(&[inode], || self.proc.removexattr(fd, &host))
            }
        }
    }

    /// An access list also sets the mode's bits, and is not kept if it says no more than them.
    fn set_access_acl(&self, inode: &Inode, value: &[u8], kill_sgid: bool) -> Result<()> {
        let fd = &inode.fd;
        let Some(acl) = Acl::parse(value)? else {
            return absent_is_fine(self.proc.removexattr(fd, STORED_ACCESS_ACL));
        };
        if acl.is_mode_only() {
            absent_is_fine(self.proc.removexattr(fd, STORED_ACCESS_ACL))?;
        } else {
            self.proc
                .setxattr(fd, STORED_ACCESS_ACL, value, XattrFlags::empty())?;
        }
        let meta = self.stat(inode)?;
        let mut mode = meta.seen.mode & !0o777 | acl.mode();
        if kill_sgid {
            mode &= !libc::S_ISGID;
        }
        inode.unlearn(NO_SET_ID);
        self.store(inode, &meta, Override { mode, ..meta.seen })
    }

    fn set_default_acl(&self, inode: &Inode, value: &[u8]) -> Result<()> {
        if !inode.is_dir() {
            return Err(errno(libc::EACCES));
        }
        let fd = &inode.fd;
        match Acl::parse(value)? {
            Some(_) => self
                .proc
                .setxattr(fd, STORED_DEFAULT_ACL, value, XattrFlags::empty()),
            None => absent_is_fine(self.proc.removexattr(fd, STORED_DEFAULT_ACL)),
        }
    }

    /// Lets an access list say what a chmod says.
    pub(super) fn chmod_acl(&self, inode: &Inode, mode: u32) -> Result<()> {
        let list = self.stored(inode, STORED_ACCESS_ACL)?;
        match list
            .as_deref()
            .map(Acl::parse)
            .transpose()
            .unwrap_or_default()
            .flatten()
        {
            None => Ok(()),
            Some(acl) => {
                let value = acl.chmod(mode).format();
                self.proc
                    .setxattr(&inode.fd, STORED_ACCESS_ACL, &value, XattrFlags::empty())
            }
        }
    }

    pub(super) fn remove_capability(&self, inode: &Inode) -> Result<()> {
        if !self.user_xattrs {
            return Ok(());
        }
        let fd = &inode.fd;
        // Asking first is cheaper: removing takes locks and a journal even if there is nothing.
        if self.proc.getxattr(fd, STORED_CAPABILITY, &mut []).is_err() {
            return Ok(());
        }
        absent_is_fine(self.proc.removexattr(fd, STORED_CAPABILITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_place() {
        let host = |name: &CStr| Place::Host(name.to_owned());
        assert_eq!(place(c"user.note"), host(c"user.note"));
        assert_eq!(place(c"security.capability"), host(STORED_CAPABILITY));
        assert_eq!(
            place(c"trusted.overlay.opaque"),
            host(c"user.virtiofs.trusted.overlay.opaque")
        );
        assert_eq!(place(c"system.posix_acl_access"), host(STORED_ACCESS_ACL));
        assert_eq!(place(c"user.containers.override_stat"), Place::Reserved);
        assert_eq!(place(c"user.virtiofs.security.capability"), Place::Reserved);
        for name in [c"", c"system.nfs4_acl", c"userland", c"btrfs.compression"] {
            assert_eq!(place(name), Place::Unknown, "{name:?}");
        }
    }
}
