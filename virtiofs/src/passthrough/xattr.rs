//! Extended attributes of the guest.
//!
//! `user.*` are the host's. The classes that an ordinary host user cannot set are stored with the
//! prefix `user.virtiofs.`, as the virtiofsd documentation proposes (`doc/xattr-mapping.md`).

use std::ffi::{CStr, CString};
use std::io::Result;

use rustix::fs::XattrFlags;

use super::acl::Acl;
use super::fs::PassthroughFs;
use super::inodes::{Inode, NO_CAPABILITY, NO_SET_ID};
use super::override_stat::{self, Override};
use super::sys::ignore_absent;
use crate::fuse::filesystem::{XattrReply, errno};

const PREFIX: &[u8] = b"user.virtiofs.";
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
const CAPABILITY: &[u8] = b"security.capability";
/// The host's name of the guest's access control list.
pub(super) const STORED_ACCESS_ACL: &CStr = c"user.virtiofs.system.posix_acl_access";
/// The host's name of the guest's default access control list.
pub(super) const STORED_DEFAULT_ACL: &CStr = c"user.virtiofs.system.posix_acl_default";
const STORED_CAPABILITY: &CStr = c"user.virtiofs.security.capability";

/// The longest value of an attribute in bytes (`XATTR_SIZE_MAX`, Linux `uapi/linux/limits.h`).
const XATTR_SIZE_MAX: usize = 65536;

/// The host's name of an attribute of the guest.
#[derive(Debug, PartialEq, Eq)]
enum HostName {
    Mapped(CString),
    /// None: the guest's name is one that the server itself uses on the host.
    Reserved,
    /// None: the guest's name is of no class that the server supports.
    Unsupported,
}

fn map_name(name: &CStr) -> HostName {
    let bytes = name.to_bytes();
    if bytes == override_stat::XATTR.to_bytes() || bytes.starts_with(PREFIX) {
        return HostName::Reserved;
    }
    if bytes.starts_with(b"user.") {
        return HostName::Mapped(name.to_owned());
    }
    let prefixed = bytes.starts_with(b"security.")
        || bytes.starts_with(b"trusted.")
        || bytes == ACCESS_ACL
        || bytes == DEFAULT_ACL;
    if !prefixed {
        return HostName::Unsupported;
    }
    // Neither part has a NUL.
    CString::new([PREFIX, bytes].concat()).map_or(HostName::Unsupported, HostName::Mapped)
}

impl PassthroughFs {
    /// Reads an attribute by its name on the host; `None` if it is not set or the inode cannot
    /// have any.
    pub(super) fn read_stored(&self, inode: &Inode, name: &CStr) -> Result<Option<Vec<u8>>> {
        if !self.user_xattrs || !inode.has_xattrs() {
            return Ok(None);
        }
        match self.read_value(inode, name) {
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

    fn read_value(&self, inode: &Inode, name: &CStr) -> Result<Vec<u8>> {
        // Most values are small; a larger one costs a second call.
        let mut value = vec![0; 256];
        loop {
            match self.proc.getxattr(&inode.fd, name, &mut value) {
                Ok(len) => {
                    value.truncate(len);
                    return Ok(value);
                }
                Err(error)
                    if error.raw_os_error() == Some(libc::ERANGE)
                        && value.len() < XATTR_SIZE_MAX =>
                {
                    value.resize(XATTR_SIZE_MAX, 0);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// GETXATTR.
    pub(super) fn get_attribute(
        &self,
        inode: &Inode,
        name: &CStr,
        size: u32,
    ) -> Result<XattrReply> {
        match map_name(name) {
            HostName::Unsupported => Err(errno(libc::EOPNOTSUPP)),
            HostName::Reserved => Err(errno(libc::ENODATA)),
            HostName::Mapped(_) if !inode.has_xattrs() => Err(errno(libc::ENODATA)),
            HostName::Mapped(host) => XattrReply::fit(self.read_value(inode, &host)?, size),
        }
    }

    /// LISTXATTR: returns all names as the guest knows them, each with a NUL.
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

    /// SETXATTR with the flags of setxattr(2).
    pub(super) fn set_attribute(
        &self,
        inode: &Inode,
        name: &CStr,
        value: &[u8],
        flags: u32,
        kill_sgid: bool,
    ) -> Result<()> {
        let host = match map_name(name) {
            HostName::Unsupported => return Err(errno(libc::EOPNOTSUPP)),
            HostName::Reserved => return Err(errno(libc::EPERM)),
            HostName::Mapped(_) if !inode.has_xattrs() => {
                let user = name.to_bytes().starts_with(b"user.");
                return Err(errno(if user { libc::EPERM } else { libc::EOPNOTSUPP }));
            }
            HostName::Mapped(host) => host,
        };
        match name.to_bytes() {
            ACCESS_ACL => return self.set_access_acl(inode, value, kill_sgid),
            DEFAULT_ACL => return self.set_default_acl(inode, value),
            CAPABILITY => inode.clear_facts(NO_CAPABILITY),
            _ => {}
        }
        let flags = XattrFlags::from_bits_retain(flags);
        self.proc.setxattr(&inode.fd, &host, value, flags)
    }

    /// REMOVEXATTR.
    pub(super) fn remove_attribute(&self, inode: &Inode, name: &CStr) -> Result<()> {
        match map_name(name) {
            HostName::Unsupported => Err(errno(libc::EOPNOTSUPP)),
            HostName::Reserved => Err(errno(libc::EPERM)),
            HostName::Mapped(_) if !inode.has_xattrs() => Err(errno(libc::ENODATA)),
            HostName::Mapped(host) => {
                self.with_access(&[inode], || self.proc.removexattr(&inode.fd, &host))
            }
        }
    }

    fn write_stored(&self, inode: &Inode, name: &CStr, value: &[u8]) -> Result<()> {
        self.proc
            .setxattr(&inode.fd, name, value, XattrFlags::empty())
    }

    fn remove_stored(&self, inode: &Inode, name: &CStr) -> Result<()> {
        ignore_absent(self.proc.removexattr(&inode.fd, name))
    }

    /// Sets the access list, and the mode's bits with it. A list that says no more than a mode
    /// is not stored.
    fn set_access_acl(&self, inode: &Inode, value: &[u8], kill_sgid: bool) -> Result<()> {
        let Some(acl) = Acl::parse(value)? else {
            return self.remove_stored(inode, STORED_ACCESS_ACL);
        };
        if acl.is_mode_only() {
            self.remove_stored(inode, STORED_ACCESS_ACL)?;
        } else {
            self.write_stored(inode, STORED_ACCESS_ACL, value)?;
        }
        let now = self.stat(inode)?;
        let mut mode = now.guest.mode & !0o777 | acl.mode();
        if kill_sgid {
            mode &= !libc::S_ISGID;
        }
        inode.clear_facts(NO_SET_ID);
        self.store(inode, &now, Override { mode, ..now.guest })
    }

    fn set_default_acl(&self, inode: &Inode, value: &[u8]) -> Result<()> {
        if !inode.is_dir() {
            return Err(errno(libc::EACCES));
        }
        match Acl::parse(value)? {
            Some(_) => self.write_stored(inode, STORED_DEFAULT_ACL, value),
            None => self.remove_stored(inode, STORED_DEFAULT_ACL),
        }
    }

    /// Applies a chmod to the access list, if there is one.
    pub(super) fn chmod_acl(&self, inode: &Inode, mode: u32) -> Result<()> {
        let list = self.read_stored(inode, STORED_ACCESS_ACL)?;
        match Acl::parse_stored(list.as_deref()) {
            None => Ok(()),
            Some(acl) => {
                let value = acl.chmod(mode).format();
                self.write_stored(inode, STORED_ACCESS_ACL, &value)
            }
        }
    }

    /// Removes the capabilities of a file.
    pub(super) fn remove_capability(&self, inode: &Inode) -> Result<()> {
        if !self.user_xattrs {
            return Ok(());
        }
        // Asking first is cheaper: removing takes locks and a journal even if there is nothing.
        let probe = self.proc.getxattr(&inode.fd, STORED_CAPABILITY, &mut []);
        if probe.is_err() {
            return Ok(());
        }
        self.remove_stored(inode, STORED_CAPABILITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_map_name() {
        let host = |name: &CStr| HostName::Mapped(name.to_owned());
        assert_eq!(map_name(c"user.note"), host(c"user.note"));
        assert_eq!(map_name(c"security.capability"), host(STORED_CAPABILITY));
        assert_eq!(
            map_name(c"trusted.overlay.opaque"),
            host(c"user.virtiofs.trusted.overlay.opaque")
        );
        assert_eq!(
            map_name(c"system.posix_acl_access"),
            host(STORED_ACCESS_ACL)
        );
        assert_eq!(
            map_name(c"user.containers.override_stat"),
            HostName::Reserved
        );
        assert_eq!(
            map_name(c"user.virtiofs.security.capability"),
            HostName::Reserved
        );
        for name in [c"", c"system.nfs4_acl", c"userland", c"btrfs.compression"] {
            assert_eq!(map_name(name), HostName::Unsupported, "{name:?}");
        }
    }
}
