//! POSIX access control lists as in the extended attributes `system.posix_acl_*`.
//!
//! Format: Linux `include/uapi/linux/posix_acl_xattr.h`, all little endian: a 32 bit version (2),
//! then for each entry a 16 bit tag, 16 bit permissions and a 32 bit id. Rules: acl(5) and
//! POSIX 1003.1e draft 17, 23.1.

use std::io;

use crate::fuse::filesystem::errno;

const VERSION: u32 = 2;
// Tags: Linux include/uapi/linux/posix_acl.h
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A valid access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    /// Parses an attribute's value. Returns `None` for a list without entries, which asks to
    /// remove the list; fails with `EINVAL` if it is malformed.
    pub(super) fn parse(value: &[u8]) -> io::Result<Option<Self>> {
        let invalid = || errno(libc::EINVAL);
        let (version, rest) = value.split_first_chunk::<4>().ok_or_else(invalid)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(errno(libc::EOPNOTSUPP));
        }
        let (entries, []) = rest.as_chunks::<8>() else {
            return Err(invalid());
        };
        if entries.is_empty() {
            return Ok(None);
        }
        let acl = Self(
            entries
                .iter()
                .map(|&[t0, t1, p0, p1, i0, i1, i2, i3]| Entry {
                    tag: u16::from_le_bytes([t0, t1]),
                    perm: u16::from_le_bytes([p0, p1]),
                    id: u32::from_le_bytes([i0, i1, i2, i3]),
                })
                .collect(),
        );
        let count = |tag| acl.0.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP);
        let single = [USER_OBJ, GROUP_OBJ, OTHER]
            .iter()
            .all(|tag| count(*tag) == 1);
        let masks = count(MASK);
        let known = acl.0.len() == named + masks + 3;
        let bits = acl.0.iter().all(|entry| entry.perm <= 7);
        if single && known && bits && masks <= 1 && (named == 0 || masks == 1) {
            Ok(Some(acl))
        } else {
            Err(invalid())
        }
    }

    /// Parses a stored list; `None` if there is none, or none that is valid.
    pub(super) fn parse_stored(value: Option<&[u8]>) -> Option<Self> {
        Self::parse(value?).ok().flatten()
    }

    /// Returns the attribute's value.
    pub(super) fn format(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            value.extend_from_slice(&entry.tag.to_le_bytes());
            value.extend_from_slice(&entry.perm.to_le_bytes());
            value.extend_from_slice(&entry.id.to_le_bytes());
        }
        value
    }

    /// Whether the list says no more than a mode's bits.
    pub(super) fn is_mode_only(&self) -> bool {
        self.0.len() == 3
    }

    /// Returns the tag of the entry that a mode's group bits stand for: the mask if there is one,
    /// else the group.
    fn group_class(&self) -> u16 {
        if self.0.iter().any(|entry| entry.tag == MASK) {
            MASK
        } else {
            GROUP_OBJ
        }
    }

    /// Returns by how many bits an entry's permissions are shifted in a mode; `None` if a mode
    /// does not have them.
    fn shift(&self, tag: u16) -> Option<u32> {
        match tag {
            USER_OBJ => Some(6),
            OTHER => Some(0),
            tag if tag == self.group_class() => Some(3),
            _ => None,
        }
    }

    /// Returns the permission bits (at most `0o777`) of a file with this list.
    pub(super) fn mode(&self) -> u32 {
        self.0
            .iter()
            .filter_map(|entry| Some(u32::from(entry.perm & 7) << self.shift(entry.tag)?))
            .fold(0, |mode, bits| mode | bits)
    }

    /// Returns the list after chmod to `mode`.
    pub(super) fn chmod(&self, mode: u32) -> Self {
        let change = |entry: &Entry| match self.shift(entry.tag) {
            Some(shift) => Entry {
                perm: (mode >> shift & 7) as u16,
                ..*entry
            },
            None => *entry,
        };
        Self(self.0.iter().map(change).collect())
    }

    /// Returns the access list of a new file whose directory has this default list: at most the
    /// permissions of the `mode` asked for.
    pub(super) fn inherited(&self, mode: u32) -> Self {
        let change = |entry: &Entry| match self.shift(entry.tag) {
            Some(shift) => Entry {
                perm: entry.perm & (mode >> shift & 7) as u16,
                ..*entry
            },
            None => *entry,
        };
        Self(self.0.iter().map(change).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl(entries
            .iter()
            .map(|&(tag, perm, id)| Entry { tag, perm, id })
            .collect())
    }

    const NONE: u32 = u32::MAX;

    fn extended() -> Acl {
        acl(&[
            (USER_OBJ, 7, NONE),
            (USER, 6, 1000),
            (GROUP_OBJ, 5, NONE),
            (MASK, 7, NONE),
            (OTHER, 4, NONE),
        ])
    }

    #[test]
    fn parsing_reverses_formatting() {
        for list in [
            extended(),
            acl(&[(USER_OBJ, 6, NONE), (GROUP_OBJ, 4, NONE), (OTHER, 0, NONE)]),
        ] {
            assert_eq!(Acl::parse(&list.format()).unwrap(), Some(list));
        }
        assert_eq!(Acl::parse(&2_u32.to_le_bytes()).unwrap(), None);
    }

    #[test]
    fn malformed_lists_are_refused() {
        let broken = [
            acl(&[(USER_OBJ, 7, NONE), (OTHER, 7, NONE)]),
            acl(&[(USER_OBJ, 8, NONE), (GROUP_OBJ, 4, NONE), (OTHER, 0, NONE)]),
            // A named entry needs a mask.
            acl(&[
                (USER_OBJ, 7, NONE),
                (USER, 7, 1),
                (GROUP_OBJ, 4, NONE),
                (OTHER, 0, NONE),
            ]),
            acl(&[
                (USER_OBJ, 7, NONE),
                (64, 7, 1),
                (GROUP_OBJ, 4, NONE),
                (OTHER, 0, NONE),
            ]),
        ];
        for list in broken {
            assert_eq!(
                Acl::parse(&list.format()).unwrap_err().raw_os_error(),
                Some(libc::EINVAL)
            );
        }
        for value in [&b""[..], b"\x02\0\0", b"\x02\0\0\0\x01"] {
            assert_eq!(
                Acl::parse(value).unwrap_err().raw_os_error(),
                Some(libc::EINVAL)
            );
        }
    }

    #[test]
    fn the_group_bits_of_a_mode_are_the_mask() {
        assert_eq!(extended().mode(), 0o774);
        let changed = extended().chmod(0o640);
        assert_eq!(changed.mode(), 0o640);
        // The group's own entry is kept behind the mask.
        assert!(changed.0.contains(&Entry {
            tag: GROUP_OBJ,
            perm: 5,
            id: NONE
        }));
    }

    #[test]
    fn inherited_lists_allow_no_more_than_asked_for() {
        let child = extended().inherited(0o640);
        assert_eq!(child.mode(), 0o640);
        assert_eq!(extended().inherited(0o777).mode(), 0o774);
    }

    proptest! {
        #[test]
        fn no_value_breaks_the_parser(value in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(Some(list)) = Acl::parse(&value) {
                prop_assert_eq!(list.format(), value);
                prop_assert!(list.mode() <= 0o777);
            }
        }
    }
}
