//! Fields of partition tables and superblocks.

use std::io::{self, Write};

/// Partitions whose superblocks are looked at, at most.
const MOST: usize = 128;
/// Bytes of a sector.
const SECTOR: u64 = 512;

/// The places in a disk where file systems begin.
#[derive(Debug, Default)]
pub(super) struct Tables {
    starts: Vec<u64>,
}

impl Tables {
    /// Reads the tables in the first bytes of a disk, and writes their fields.
    pub(super) fn read(bytes: &[u8], out: &mut dyn Write) -> io::Result<Tables> {
        // A file system without partitions begins at 0.
        let mut starts = vec![0];
        if bytes.len() < 1024 || bytes[510..512] != [0x55, 0xaa] {
            return Ok(Tables { starts });
        }
        // The disk's id and four entries of 16 bytes (UEFI 2.10, 5.2.1).
        field(out, "partition table, disk id", &number(bytes, 440, 4))?;
        let mut is_gpt = false;
        for entry in 0..4_usize {
            let at = 446 + 16 * entry;
            let kind = bytes[at + 4];
            let (start, length) = (number(bytes, at + 8, 4), number(bytes, at + 12, 4));
            if kind == 0 {
                continue;
            }
            is_gpt |= kind == 0xee;
            let text = format!(
                "type={kind:#x} start={start} length={length} flags={:#x}",
                bytes[at]
            );
            text_field(out, &format!("partition table, entry {}", entry + 1), &text)?;
            starts.push(start.saturating_mul(SECTOR));
        }
        if is_gpt {
            gpt(bytes, &mut starts, out)?;
        }
        Ok(Tables { starts })
    }

    /// Writes the fields of superblocks that are in the piece at `at`.
    pub(super) fn superblocks(&self, at: u64, piece: &[u8], out: &mut dyn Write) -> io::Result<()> {
        for start in &self.starts {
            let Some(offset) = start
                .checked_sub(at)
                .and_then(|offset| usize::try_from(offset).ok())
            else {
                continue;
            };
            if let Some(bytes) = piece.get(offset..) {
                superblocks(*start, bytes, out)?;
            }
        }
        Ok(())
    }
}

/// The header and entries of a GPT (UEFI 2.10, 5.3.2 and 5.3.3).
fn gpt(bytes: &[u8], starts: &mut Vec<u64>, out: &mut dyn Write) -> io::Result<()> {
    if bytes.len() < 34 * 512 || &bytes[512..520] != b"EFI PART" {
        return Ok(());
    }
    field_hex(out, "GPT, disk GUID", &bytes[512 + 56..512 + 72])?;
    for (index, entry) in bytes[1024..34 * 512].chunks_exact(128).enumerate() {
        if entry[..16] == [0; 16] || starts.len() > MOST {
            continue;
        }
        let name = format!("GPT, entry {}", index + 1);
        field_hex(out, &format!("{name}, type"), &entry[..16])?;
        field_hex(out, &format!("{name}, GUID"), &entry[16..32])?;
        let (first, last) = (number(entry, 32, 8), number(entry, 40, 8));
        text_field(out, &name, &format!("first={first} last={last}"))?;
        starts.push(first.saturating_mul(SECTOR));
    }
    Ok(())
}

/// A field: its name, where it is, how many bytes it has, and whether it is shown as hex.
type Field = (&'static str, usize, usize, bool);

/// Fields of ext4's superblock that differ from one to the next (Linux
/// Documentation/filesystems/ext4/super.rst); it begins at 1024.
const EXT4: &[Field] = &[
    ("inodes", 0x00, 4, false),
    ("blocks", 0x04, 4, false),
    ("free blocks", 0x0c, 4, false),
    ("free inodes", 0x10, 4, false),
    ("mounted", 0x2c, 4, false),
    ("written", 0x30, 4, false),
    ("mounts", 0x34, 2, false),
    ("checked", 0x40, 4, false),
    ("UUID", 0x68, 16, true),
    ("label", 0x78, 16, true),
    ("last mounted at", 0x88, 64, true),
    ("hash seed", 0xec, 16, true),
    ("made", 0x108, 4, false),
    ("kilobytes written", 0x178, 8, false),
];

/// Fields of squashfs's superblock (Documentation/filesystems/squashfs.rst, `fs/squashfs/squashfs_fs.h`).
const SQUASHFS: &[Field] = &[
    ("inodes", 4, 4, false),
    ("made", 8, 4, false),
    ("block size", 12, 4, false),
    ("compression", 20, 2, false),
    ("bytes", 40, 8, false),
];

/// Fields of XFS's superblock, whose numbers are big-endian (`fs/xfs/libxfs/xfs_format.h`).
const XFS: &[Field] = &[("UUID", 32, 16, true), ("label", 108, 12, true)];

/// Fields of btrfs's superblock, which begins at 65536 (`include/uapi/linux/btrfs_tree.h`).
const BTRFS: &[Field] = &[
    ("UUID", 0x20, 16, true),
    ("generation", 0x48, 8, false),
    ("label", 0x12b, 256, true),
];

/// Fields of the boot sector of FAT (Microsoft, "FAT32 File System Specification").
const FAT: &[Field] = &[
    ("volume id, FAT16", 39, 4, true),
    ("volume id, FAT32", 67, 4, true),
];

/// Writes the fields of the superblock of a file system that begins with `bytes`, at `start` of its disk.
fn superblocks(start: u64, bytes: &[u8], out: &mut dyn Write) -> io::Result<()> {
    let has = |at: usize, magic: &[u8]| bytes.get(at..at + magic.len()) == Some(magic);
    // Magic numbers: 0xef53 at 1080, and as in blkid's tables.
    let (name, base, fields) = if has(1080, &[0x53, 0xef]) {
        ("ext4", 1024, EXT4)
    } else if has(0, b"hsqs") {
        ("squashfs", 0, SQUASHFS)
    } else if has(0, b"XFSB") {
        ("xfs", 0, XFS)
    } else if has(65536 + 64, b"_BHRfS_M") {
        ("btrfs", 65536, BTRFS)
    } else if has(54, b"FAT") || has(82, b"FAT32") {
        ("FAT", 0, FAT)
    } else {
        return Ok(());
    };
    for (field, at, length, is_hex) in fields {
        let Some(value) = bytes.get(base + at..base + at + length) else {
            continue;
        };
        let place = format!("{name} at {start}, {field}");
        if *is_hex {
            field_hex(out, &place, value)?;
        } else {
            text_field(out, &place, &number(value, 0, *length).to_string())?;
        }
    }
    Ok(())
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    let bytes = bytes.get(at..at + length).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn field(out: &mut dyn Write, place: &str, value: &u64) -> io::Result<()> {
    text_field(out, place, &format!("{value:#x}"))
}

fn field_hex(out: &mut dyn Write, place: &str, value: &[u8]) -> io::Result<()> {
    text_field(out, place, &super::field::hex(value))
}

fn text_field(out: &mut dyn Write, place: &str, value: &str) -> io::Result<()> {
    writeln!(out, "field\t{place}\t{value}")
}
