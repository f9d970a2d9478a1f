//! Reads archives of the format "newc" and decompresses them.

use std::borrow::Cow;

use crate::kernel::{ExtractError, unpack_at_most};

/// Length of an entry's header in bytes: a magic number of 6 digits and 13 fields of 8.
const HEADER: usize = 110;
/// Magic numbers of entries without and with a checksum.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];
/// Name of the last entry.
const TRAILER: &[u8] = b"TRAILER!!!";
/// Limit for the size of all archives together, in bytes: more than any box's ramdisk has.
const LARGEST: usize = 512 << 20;
/// Most entries of all archives together: dracut's largest ramdisks have some ten thousand.
const MOST_ENTRIES: usize = 250_000;
/// Most compressed parts.
const MOST_PARTS: usize = 1000;

/// A ramdisk that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A part cannot be decompressed.
    #[error("a part of the initial ramdisk cannot be unpacked")]
    Unpack(#[from] ExtractError),
    /// A part ends within an entry, or a header has other characters than digits.
    #[error("an archive in the initial ramdisk is damaged")]
    Damaged,
    /// The archives exceed the limit.
    #[error("the initial ramdisk unpacks to more than {} MiB", LARGEST >> 20)]
    TooLarge,
    /// There are too many files or parts.
    #[error("the initial ramdisk has more files than any that is known")]
    TooMany,
    /// Its indexes of modules are not those of a distribution.
    #[error("the indexes of modules in the initial ramdisk take too long to search")]
    TooMuchWork,
}

/// A file, folder or link in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Path without leading `/` and `./`.
    pub path: &'a [u8],
    /// Type and permissions (inode(7)).
    pub mode: u32,
    /// Content, or the target of a symbolic link.
    pub data: &'a [u8],
}

impl Entry<'_> {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// The archives of a ramdisk, decompressed.
///
/// # Errors
/// If a part has an unknown format, is damaged, or is too large.
pub fn unpack(ramdisk: &[u8]) -> Result<Vec<Cow<'_, [u8]>>, ReadError> {
    let mut archives = Vec::new();
    let mut rest = ramdisk;
    let mut total = 0_usize;
    loop {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &rest[zeros..];
        if rest.is_empty() {
            return Ok(archives);
        }
        let archive = if MAGICS.iter().any(|magic| rest.starts_with(magic)) {
            let end = end_of_archive(rest)?;
            let (archive, after) = rest.split_at(end);
            rest = after;
            Cow::Borrowed(archive)
        } else {
            let (unpacked, after) =
                unpack_at_most(rest, LARGEST - total).map_err(|error| match error {
                    ExtractError::TooLarge => ReadError::TooLarge,
                    other => ReadError::Unpack(other),
                })?;
            rest = after;
            Cow::Owned(unpacked)
        };
        total = total.saturating_add(archive.len());
        if total > LARGEST {
            return Err(ReadError::TooLarge);
        }
        if archives.len() == MOST_PARTS {
            return Err(ReadError::TooMany);
        }
        archives.push(archive);
    }
}

/// All entries of a decompressed part, which may hold several consecutive archives.
///
/// # Errors
/// If it is damaged.
pub fn entries(mut part: &[u8]) -> Result<Vec<Entry<'_>>, ReadError> {
    let mut entries = Vec::new();
    loop {
        let zeros = part.iter().take_while(|byte| **byte == 0).count();
        part = &part[zeros..];
        if part.is_empty() {
            return Ok(entries);
        }
        let (entry, length) = entry(part)?;
        part = &part[length.min(part.len())..];
        if entries.len() == MOST_ENTRIES {
            return Err(ReadError::TooMany);
        }
        if let Some(entry) = entry {
            entries.push(entry);
        }
    }
}

/// Offset behind the trailer of the archive that `archive` begins with.
fn end_of_archive(archive: &[u8]) -> Result<usize, ReadError> {
    let mut at = 0;
    loop {
        let (entry, length) = entry(archive.get(at..).unwrap_or_default())?;
        at += length;
        if entry.is_none() {
            return Ok(at.min(archive.len()));
        }
    }
}

/// The entry that `part` begins with (`None` for the trailer), and its length with padding.
fn entry(part: &[u8]) -> Result<(Option<Entry<'_>>, usize), ReadError> {
    let header = part.get(..HEADER).ok_or(ReadError::Damaged)?;
    if !MAGICS.iter().any(|magic| header.starts_with(magic)) {
        return Err(ReadError::Damaged);
    }
    let field = |number: usize| {
        let digits = &header[6 + number * 8..14 + number * 8];
        std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or(ReadError::Damaged)
    };
    let (mode, size, name) = (field(1)?, field(6)? as usize, field(11)? as usize);
    let data = (HEADER + name).next_multiple_of(4);
    let end = data.checked_add(size).ok_or(ReadError::Damaged)?;
    let path = part.get(HEADER..HEADER + name).ok_or(ReadError::Damaged)?;
    let path = path.strip_suffix(b"\0").ok_or(ReadError::Damaged)?;
    if path == TRAILER {
        return Ok((None, end.next_multiple_of(4)));
    }
    let path = path.strip_prefix(b".").unwrap_or(path);
    let entry = Entry {
        path: path.strip_prefix(b"/").unwrap_or(path),
        mode,
        data: part.get(data..end).ok_or(ReadError::Damaged)?,
    };
    Ok((Some(entry), end.next_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::cpio::Archive;

    fn archive(name: &str) -> Vec<u8> {
        Archive::new()
            .directory("a", 0o755)
            .file(name, 0o644, b"12345")
            .finish()
    }

    #[test]
    fn compressed_and_plain_parts_in_a_row() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&archive("a/gzip")).unwrap();
        let zstd = zstd::encode_all(&archive("a/zstd")[..], 1).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(&archive("a/xz")).unwrap();
        let parts = [
            archive("kernel/x86/microcode"),
            vec![0; 512],
            gzip.finish().unwrap(),
            vec![0; 3],
            zstd,
            xz.finish().unwrap(),
            archive("./a/last"),
        ];
        let ramdisk = parts.concat();
        let mut names = Vec::new();
        for part in unpack(&ramdisk).unwrap() {
            for entry in entries(&part).unwrap() {
                if entry.is_file() {
                    assert_eq!(entry.data, b"12345");
                    names.push(String::from_utf8(entry.path.to_vec()).unwrap());
                }
            }
        }
        assert_eq!(
            names,
            ["kernel/x86/microcode", "a/gzip", "a/zstd", "a/xz", "a/last"]
        );
    }

    #[test]
    fn damaged_ramdisks_are_refused() {
        let good = archive("a/b");
        for cut in [1, 6, 109, 112, 150, good.len() - 8] {
            let result = unpack(&good[..cut]);
            assert!(result.is_err(), "{cut}");
        }
        for (at, byte) in [(0, b'1'), (54, b'f'), (54, b'+'), (94, b'f'), (14, b'x')] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(
                unpack(&bad).is_err()
                    || unpack(&bad)
                        .is_ok_and(|parts| { parts.iter().any(|part| entries(part).is_err()) }),
                "{at}"
            );
        }
        assert!(unpack(b"BZh91AY&SY").is_err());
        assert!(unpack(&[]).unwrap().is_empty());
    }
}
