//! A share: which host directory a guest may use, and how the guest sees it.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::hidden::Hidden;

/// A string that cannot be a mount tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mount tag {0:?} must have 1 to {max} bytes and no NUL", max = MountTag::MAX_LEN)]
pub struct MountTagError(String);

/// The name by which a guest mounts a share: 1 to 36 bytes without NUL (virtio 1.2, section
/// 5.11.4).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MountTag(Cow<'static, str>);

impl MountTag {
    /// The longest tag in bytes: the size of the device's `tag` field.
    pub const MAX_LEN: usize = 36;

    /// Checks a tag.
    ///
    /// # Errors
    /// If it is empty, longer than [`MAX_LEN`](Self::MAX_LEN), or has a NUL.
    pub fn new(tag: impl Into<String>) -> Result<Self, MountTagError> {
        let tag = tag.into();
        if tag.is_empty() || tag.len() > Self::MAX_LEN || tag.contains('\0') {
            return Err(MountTagError(tag));
        }
        Ok(Self(Cow::Owned(tag)))
    }

    /// Makes a tag of a constant. To be called in a `const`, so that one that is not valid is an
    /// error of the compiler.
    ///
    /// # Panics
    /// Panics if it is empty, longer than [`MAX_LEN`](Self::MAX_LEN), or has a NUL.
    pub const fn constant(tag: &'static str) -> Self {
        let bytes = tag.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= Self::MAX_LEN);
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at] != 0);
            at += 1;
        }
        Self(Cow::Borrowed(tag))
    }

    /// Returns the tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the device's `tag` field: the tag, padded with NULs.
    pub fn to_field(&self) -> [u8; Self::MAX_LEN] {
        let mut field = [0; Self::MAX_LEN];
        for (to, from) in field.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        field
    }
}

impl fmt::Display for MountTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One host directory that a guest may use.
///
/// The same value serves both doors: the device of a VMM in this process, and vhost-user
/// ([`vhost_user`](crate::vhost_user)). [`Share::new`] sets the defaults for a directory that
/// nothing but the one guest changes; every field may be changed afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The name by which the guest mounts it.
    pub tag: MountTag,
    /// Existing directory that becomes the root of the guest's file system.
    pub root: PathBuf,
    /// Whether every modifying request answers `EROFS`.
    pub read_only: bool,
    /// User id that the guest sees on files that belong to the calling host user.
    pub guest_uid: u32,
    /// Group id that the guest sees on files that belong to the calling host user.
    pub guest_gid: u32,
    /// How long the guest may use names and attributes without asking again.
    ///
    /// The default of one day is right if nothing else changes the directory while the guest
    /// runs; changes on the host become visible to the guest only after this time.
    pub timeout: Duration,
    /// Whether the guest keeps its page cache of a file from one open to the next.
    ///
    /// True by default: with long attribute timeouts, dropping pages at each open would cost
    /// speed without making changes on the host visible.
    pub keep_cache: bool,
    /// Whether the guest may delay writes in its page cache (FUSE writeback cache).
    ///
    /// False by default: with it, times and sizes on the host lag behind the guest.
    pub writeback: bool,
    /// What the guest does not see of it.
    pub hidden: Hidden,
}

impl Share {
    /// A read-write share of `root` whose files belong to guest root.
    pub fn new(tag: MountTag, root: impl Into<PathBuf>) -> Self {
        Self {
            tag,
            root: root.into(),
            read_only: false,
            guest_uid: 0,
            guest_gid: 0,
            timeout: Duration::from_secs(86_400),
            keep_cache: true,
            writeback: false,
            hidden: Hidden::default(),
        }
    }

    /// Returns the same share, with every modifying request refused.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Returns the same share, for a directory that others change while the guest runs: it asks again
    /// each time, and sees what they did.
    #[must_use]
    pub fn uncached(mut self) -> Self {
        self.timeout = Duration::ZERO;
        self.keep_cache = false;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_fit_the_devices_field() {
        let longest = "x".repeat(36);
        assert_eq!(MountTag::new(&longest).unwrap().to_field(), [b'x'; 36]);
        const CONSTANT: MountTag = MountTag::constant("host0");
        assert_eq!(CONSTANT, MountTag::new("host0").unwrap());
        let field = MountTag::new("host0").unwrap().to_field();
        assert_eq!(&field[..6], b"host0\0");
        for tag in ["", "a\0b", &"x".repeat(37)] {
            let refused = MountTag::new(tag).unwrap_err().to_string();
            assert!(refused.contains("1 to 36 bytes"), "{refused}");
        }
    }
}
