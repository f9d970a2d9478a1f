//! Tells what a block device holds, by its superblock.

/// Bytes that [`probe`] needs from the start of a device.
pub const PROBE_LENGTH: usize = 0x1_1000;

/// What a device holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file system that can be mounted as it is.
    FileSystem {
        /// Its type for mount(2); `ext4` for ext2 and ext3, too.
        kind: &'static str,
        /// Its UUID, in lower case.
        uuid: String,
        /// Its label; empty if it has none, and for f2fs.
        label: String,
    },
    /// Something that must be opened before it can be mounted. Holds a description for messages.
    Container(&'static str),
    /// Anything else.
    Unknown,
}

/// Examines the first [`PROBE_LENGTH`] bytes of a device, or all of a smaller one.
///
/// Offsets: ext4, Linux fs/ext4/ext4.h (`struct ext4_super_block` at 1024); xfs, fs/xfs/libxfs/
/// xfs_format.h (`struct xfs_dsb`); btrfs, include/uapi/linux/btrfs_tree.h (`struct
/// btrfs_super_block` at 64 KiB); f2fs, include/linux/f2fs_fs.h; LVM2, lib/format_text/layout.h
/// (`label_header` in one of the first four sectors); LUKS, its on-disk format specification.
pub fn probe(start: &[u8]) -> Content {
    let at = |offset: usize, bytes: &[u8]| start.get(offset..offset + bytes.len()) == Some(bytes);
    let file_system = |kind, uuid: usize, label: usize, length: usize| Content::FileSystem {
        kind,
        uuid: start
            .get(uuid..uuid + 16)
            .map(uuid_text)
            .unwrap_or_default(),
        label: text(start.get(label..label + length).unwrap_or_default()),
    };
    if at(0, b"LUKS\xba\xbe") {
        Content::Container("an encrypted volume (LUKS)")
    } else if (0..4).any(|sector| at(sector * 512, b"LABELONE")) {
        Content::Container("a physical volume of LVM")
    } else if at(0x438, b"\x53\xef") {
        file_system("ext4", 0x468, 0x478, 16)
    } else if at(0, b"XFSB") {
        file_system("xfs", 32, 108, 12)
    } else if at(0x1_0040, b"_BHRfS_M") {
        file_system("btrfs", 0x1_0020, 0x1_012b, 256)
    } else if at(0x400, b"\x10\x20\xf5\xf2") {
        // Its label is in UTF-16 and not used here.
        file_system("f2fs", 0x400 + 108, 0, 0)
    } else {
        Content::Unknown
    }
}

/// Formats 16 bytes as `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
pub fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (number, byte) in bytes.iter().enumerate() {
        if matches!(number, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; PROBE_LENGTH];
        for (offset, part) in parts {
            bytes[*offset..offset + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn file_systems() {
        let uuid: Vec<u8> = (0..16).collect();
        for (kind, magic, uuid_at, label_at) in [
            ("ext4", (0x438, &b"\x53\xef"[..]), 0x468, 0x478),
            ("xfs", (0, &b"XFSB"[..]), 32, 108),
            ("btrfs", (0x1_0040, &b"_BHRfS_M"[..]), 0x1_0020, 0x1_012b),
        ] {
            let bytes = with(&[magic, (uuid_at, &uuid), (label_at, b"root")]);
            assert_eq!(
                probe(&bytes),
                Content::FileSystem {
                    kind,
                    uuid: "00010203-0405-0607-0809-0a0b0c0d0e0f".into(),
                    label: "root".into()
                }
            );
        }
    }

    #[test]
    fn what_must_be_opened_first_is_named() {
        assert!(matches!(
            probe(&with(&[(512, b"LABELONE")])),
            Content::Container(_)
        ));
        assert!(matches!(
            probe(&with(&[(0, b"LUKS\xba\xbe")])),
            Content::Container(_)
        ));
    }

    #[test]
    fn a_short_device_is_no_file_system() {
        for length in [0, 1, 0x439, 0x43a, 0x1_0043] {
            probe(&with(&[(0x438, b"\x53\xef")])[..length]);
        }
        assert_eq!(probe(&[]), Content::Unknown);
        assert_eq!(probe(&vec![0; PROBE_LENGTH]), Content::Unknown);
    }
}
