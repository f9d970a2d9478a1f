//! What a guest does not see of a share.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, Statx, StatxFlags};

/// Which directory of the host one is, by whatever path or mount it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectoryId {
    /// Device number: major in the upper, minor in the lower half.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

impl DirectoryId {
    /// Identifies an open directory.
    ///
    /// # Errors
    /// If the host cannot say.
    pub fn of(directory: impl AsFd) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(directory, c"", flags, StatxFlags::BASIC_STATS)?;
        Ok(Self {
            device: device(&stat),
            inode: stat.stx_ino,
        })
    }
}

/// Returns the device number of a file: major in the upper, minor in the lower half.
pub(crate) fn device(stat: &Statx) -> u64 {
    (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor)
}

/// Names of one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HiddenNames {
    /// All of them, but for the directory itself and its parent.
    All,
    /// Some of them.
    These(BTreeSet<OsString>),
}

impl HiddenNames {
    fn have(&self, name: &OsStr) -> bool {
        match self {
            HiddenNames::All => name != "." && name != "..",
            HiddenNames::These(names) => names.contains(name),
        }
    }
}

/// What a guest does not see of a share. For the guest, nothing has such a name: it is not listed and
/// not found (`ENOENT`), and nothing can be created under it (`EACCES`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Names that are hidden in every directory.
    pub everywhere: Vec<OsString>,
    /// Names that are hidden in one directory.
    pub inside: Option<(DirectoryId, HiddenNames)>,
}

impl Hidden {
    /// Whether the guest does not see `name` in `directory`.
    pub(crate) fn has(&self, directory: DirectoryId, name: &CStr) -> bool {
        let name = OsStr::from_bytes(name.to_bytes());
        let inside = self.inside.as_ref();
        self.everywhere.iter().any(|hidden| hidden == name)
            || inside.is_some_and(|(id, names)| *id == directory && names.have(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hidden_in_their_directory_only() {
        let id = |inode| DirectoryId { device: 1, inode };
        let hidden = Hidden {
            everywhere: vec!["staging".into()],
            inside: Some((id(7), HiddenNames::These(["old".into()].into()))),
        };
        assert!(hidden.has(id(7), c"old"));
        assert!(!hidden.has(id(8), c"old") && !hidden.has(id(7), c"older"));
        assert!(hidden.has(id(7), c"staging") && hidden.has(id(8), c"staging"));
        let all = Hidden {
            everywhere: Vec::new(),
            inside: Some((id(7), HiddenNames::All)),
        };
        assert!(all.has(id(7), c"anything") && !all.has(id(8), c"anything"));
    }
}
