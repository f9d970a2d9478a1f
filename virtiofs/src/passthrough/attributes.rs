//! What stat shows the guest.

use std::io::Result;
use std::sync::PoisonError;
use std::time::SystemTime;

use rustix::fs::Statx;

use super::fs::PassthroughFs;
use super::inodes::Inode;
use super::override_stat::{Override, encode_dev};
use super::roots::is_root;
use super::sys;
use crate::fuse::abi::Attr;

/// An inode's stat on the host, and what the guest sees instead.
#[derive(Debug)]
pub(super) struct Attributes {
    pub(super) stat: Statx,
    /// The override that is stored, if any.
    pub(super) stored: Option<Override>,
    /// Owner, mode and type for the guest.
    pub(super) guest: Override,
}

impl Attributes {
    /// Permission, set-id and sticky bits on the host.
    pub(super) fn host_mode(&self) -> u32 {
        u32::from(self.stat.stx_mode) & 0o7777
    }

    fn kind(&self) -> u32 {
        u32::from(self.stat.stx_mode) & libc::S_IFMT
    }
}

impl PassthroughFs {
    /// Returns an inode's present attributes.
    pub(super) fn stat(&self, inode: &Inode) -> Result<Attributes> {
        let stat = sys::statx(&inode.fd)?;
        self.attributes(inode, stat)
    }

    /// Returns the attributes of an inode whose stat is known.
    pub(super) fn attributes(&self, inode: &Inode, stat: Statx) -> Result<Attributes> {
        let stored = if !inode.has_xattrs() || !self.user_xattrs && is_root(inode) {
            self.transient.get(&stat)
        } else if !self.user_xattrs {
            None
        } else if let Some(cached) = inode.cached_override(&stat) {
            cached
        } else {
            let now = SystemTime::now();
            let stored = self.read_override(inode)?;
            inode.cache_override(&stat, now, stored);
            stored
        };
        let guest = match stored {
            // Only an empty stand-in can have another type.
            Some(stored) if inode.is_file() => stored,
            Some(stored) => Override {
                special: None,
                ..stored
            },
            None => self.without_override(&stat),
        };
        Ok(Attributes {
            stat,
            stored,
            guest,
        })
    }

    /// Returns the attributes of an inode that was just created and so has no override.
    pub(super) fn new_attributes(&self, stat: Statx) -> Attributes {
        Attributes {
            guest: self.without_override(&stat),
            stored: None,
            stat,
        }
    }

    /// Owner and mode for the guest of an inode without override: the host user's files are the
    /// guest owner's.
    pub(super) fn without_override(&self, stat: &Statx) -> Override {
        let own = stat.stx_uid == self.host_uid;
        Override {
            uid: if own {
                self.share.guest_uid
            } else {
                stat.stx_uid
            },
            gid: if own {
                self.share.guest_gid
            } else {
                stat.stx_gid
            },
            mode: u32::from(stat.stx_mode) & 0o7777,
            special: None,
        }
    }

    /// Converts attributes to the protocol's form.
    pub(super) fn attr(&self, attributes: &Attributes) -> Attr {
        let stat = &attributes.stat;
        let dev = (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor);
        let (kind, rdev) = match attributes.guest.special {
            Some(special) => special.type_and_rdev(),
            None => (
                attributes.kind(),
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
            mode: kind | attributes.guest.mode,
            nlink: stat.stx_nlink,
            uid: attributes.guest.uid,
            gid: attributes.guest.gid,
            rdev,
            blksize: stat.stx_blksize,
            flags: 0,
        }
    }

    /// Returns an inode number that is unique in the share: the host's, mixed with the index of
    /// its file system if that is not the root's.
    pub(super) fn guest_ino(&self, dev: u64, ino: u64) -> u64 {
        ino ^ (self.device_index(dev) << 48)
    }

    /// Returns 0 for the root's device; others count up from 1.
    fn device_index(&self, dev: u64) -> u64 {
        if dev == self.inodes.root().dev() {
            return 0;
        }
        let index_in = |devices: &Vec<u64>| devices.iter().position(|known| *known == dev);
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = index_in(&devices) {
            return index as u64 + 1;
        }
        drop(devices);
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = index_in(&devices) {
            return index as u64 + 1;
        }
        devices.push(dev);
        devices.len() as u64
    }
}
