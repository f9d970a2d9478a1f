//! The format in which ownership, mode and device numbers are stored that the host user cannot
//! set.
//!
//! It is the extended attribute `user.containers.override_stat` with `uid:gid:octal-mode:type`,
//! the format of containers/storage (`pkg/idtools`, `ContainersOverrideXattr`), which
//! fuse-overlayfs and libkrun read as well. The type is `file`,
//! `dir`, `symlink`, `pipe`, `socket`, `block-MAJOR-MINOR` or `char-MAJOR-MINOR`; it may be
//! missing, and some writers' mode has the bits of `S_IFMT`, which are ignored.

use std::ffi::CStr;
use std::io::Write;

/// Name of the attribute.
pub(super) const XATTR: &CStr = c"user.containers.override_stat";
/// More than the longest value in bytes: two 10 digit ids, a mode, a type with two 10 digit numbers.
pub(super) const MAX_LEN: usize = 96;

/// A file type that only exists for the guest; on the host it is a stand-in, an empty regular
/// file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    /// A named pipe.
    Pipe,
    /// A socket.
    Socket,
    /// A block device, by major and minor number.
    Block(u32, u32),
    /// A character device, by major and minor number.
    Char(u32, u32),
}

impl Special {
    /// Returns the type of a mode and a device number (the kernel's 32 bit encoding); `None` for
    /// regular files, directories and symbolic links.
    pub(super) fn new(mode: u32, rdev: u32) -> Option<Self> {
        // Linux include/linux/kdev_t.h, new_decode_dev
        let major = (rdev & 0xf_ff00) >> 8;
        let minor = (rdev & 0xff) | ((rdev >> 12) & 0xf_ff00);
        match mode & libc::S_IFMT {
            libc::S_IFIFO => Some(Self::Pipe),
            libc::S_IFSOCK => Some(Self::Socket),
            libc::S_IFBLK => Some(Self::Block(major, minor)),
            libc::S_IFCHR => Some(Self::Char(major, minor)),
            _ => None,
        }
    }

    /// Returns `S_IFMT` bits and device number in the kernel's 32 bit encoding.
    pub(super) fn type_and_rdev(self) -> (u32, u32) {
        match self {
            Self::Pipe => (libc::S_IFIFO, 0),
            Self::Socket => (libc::S_IFSOCK, 0),
            Self::Block(major, minor) => (libc::S_IFBLK, encode_dev(major, minor)),
            Self::Char(major, minor) => (libc::S_IFCHR, encode_dev(major, minor)),
        }
    }
}

/// The kernel's 32 bit encoding of a device number (Linux `include/linux/kdev_t.h`,
/// `new_encode_dev`): 12 bits major, 20 bits minor.
pub(super) fn encode_dev(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xf_ff00) << 12)
}

/// Owner, mode and type that the guest sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Override {
    /// User id for the guest.
    pub(super) uid: u32,
    /// Group id for the guest.
    pub(super) gid: u32,
    /// Permission, set-id and sticky bits, at most `0o7777`.
    pub(super) mode: u32,
    /// A type other than the host's, if any.
    pub(super) special: Option<Special>,
}

impl Override {
    /// Parses the attribute's value; `None` if it is not in the format.
    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
        let mut fields = value.split(':');
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok()? & 0o7777;
        let special = match fields.next() {
            None | Some("file" | "dir" | "symlink") => None,
            Some("pipe") => Some(Special::Pipe),
            Some("socket") => Some(Special::Socket),
            Some(device) => {
                let mut parts = device.split('-');
                let kind = parts.next()?;
                let (major, minor) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                match (kind, parts.next()) {
                    ("block", None) => Some(Special::Block(major, minor)),
                    ("char", None) => Some(Special::Char(major, minor)),
                    _ => return None,
                }
            }
        };
        Some(Self {
            uid,
            gid,
            mode,
            special,
        })
    }

    /// Returns the attribute's value for a regular file or directory.
    pub(super) fn format(&self, directory: bool) -> Vec<u8> {
        let mut value = Vec::with_capacity(MAX_LEN);
        // Writing to a Vec does not fail.
        let _ = write!(value, "{}:{}:0{:o}:", self.uid, self.gid, self.mode);
        let _ = match self.special {
            None if directory => write!(value, "dir"),
            None => write!(value, "file"),
            Some(Special::Pipe) => write!(value, "pipe"),
            Some(Special::Socket) => write!(value, "socket"),
            Some(Special::Block(major, minor)) => write!(value, "block-{major}-{minor}"),
            Some(Special::Char(major, minor)) => write!(value, "char-{major}-{minor}"),
        };
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(uid: u32, gid: u32, mode: u32) -> Override {
        Override {
            uid,
            gid,
            mode,
            special: None,
        }
    }

    #[test]
    fn values_of_other_writers_are_parsed() {
        let cases: [(&[u8], Override); 6] = [
            (b"0:0:0755", plain(0, 0, 0o755)),
            (b"1000:100:04755:file", plain(1000, 100, 0o4755)),
            (b"0:0:0100755", plain(0, 0, 0o755)),
            (b"0:0:1777:dir\0", plain(0, 0, 0o1777)),
            (
                b"0:5:020620:char-5-1",
                Override {
                    special: Some(Special::Char(5, 1)),
                    ..plain(0, 5, 0o620)
                },
            ),
            (
                b"0:0:0600:pipe",
                Override {
                    special: Some(Special::Pipe),
                    ..plain(0, 0, 0o600)
                },
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(Override::parse(value), Some(expected), "{value:?}");
        }
    }

    #[test]
    fn malformed_values_are_ignored() {
        for value in [
            "",
            "0",
            "0:0",
            "a:0:0755",
            "0:0:9",
            "0:0:0755:char-1",
            "0:0:0755:disk",
        ] {
            assert_eq!(Override::parse(value.as_bytes()), None, "{value}");
        }
        assert_eq!(Override::parse(b"-1:0:0755"), None);
        assert_eq!(Override::parse(b"4294967296:0:0755"), None);
        assert_eq!(Override::parse(b"\xff:0:0755"), None);
    }

    fn special() -> impl Strategy<Value = Option<Special>> {
        prop_oneof![
            Just(None),
            Just(Some(Special::Pipe)),
            Just(Some(Special::Socket)),
            (0..4096_u32, 0..1_048_576_u32).prop_map(|(a, b)| Some(Special::Block(a, b))),
            (0..4096_u32, 0..1_048_576_u32).prop_map(|(a, b)| Some(Special::Char(a, b))),
        ]
    }

    proptest! {
        #[test]
        fn parsing_reverses_formatting(
            uid: u32, gid: u32, mode in 0..0o10000_u32, special in special(), directory: bool,
        ) {
            let written = Override { uid, gid, mode, special };
            let value = written.format(directory && special.is_none());
            prop_assert!(value.len() < MAX_LEN);
            prop_assert_eq!(Override::parse(&value), Some(written));
        }

        #[test]
        fn device_numbers_survive_the_kernels_encoding(special in special()) {
            if let Some(special) = special {
                let (mode, rdev) = special.type_and_rdev();
                prop_assert_eq!(Special::new(mode, rdev), Some(special));
            }
        }

        #[test]
        fn no_value_breaks_the_parser(value in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Override::parse(&value);
        }
    }
}
