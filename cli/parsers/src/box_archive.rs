//! The archive of `boxbuild box export`: a tar archive compressed with zstd, with the description of a box
//! and its files, in this order and under these names.
//!
//! Only contents are extracted: no name in the archive becomes a path. All sizes are bounded, and so is
//! the decoder's memory.

use std::io::{self, BufRead, Read, Write};

use crate::metered::Archive;

/// Name of the member with the description, the first.
pub const DESCRIPTION: &str = "box.json";

/// Names of the members with files. A box may have no container image.
pub const MEMBERS: [&str; 4] = ["kernel", "initrd", "disk.qcow2", "container"];

/// The members that every box has.
const NEEDED: usize = 3;

/// Longest description in bytes: it goes to the parent as one message.
const LONGEST_DESCRIPTION: u64 = 32 << 10;

/// Logarithm of the largest window of the decoder: 128 MiB.
const WINDOW: u32 = 27;

/// Bytes that the archive may unpack to in all.
const LARGEST: u64 = 4 << 40;

/// The archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BoxArchiveError {
    /// It is something else.
    #[error("it is no archive of 'boxbuild box export' (tar, compressed with zstd)")]
    NotOne,
    /// A member is missing, there twice, or at another place.
    #[error(
        "its member '{0}' is not where it is expected: box.json, kernel, initrd, disk.qcow2, \
         container, in this order"
    )]
    Unexpected(String),
    /// A member is not a plain file.
    #[error("its member '{0}' is not a plain file")]
    NotAFile(String),
    /// It has no more members.
    #[error("it ends before its member {0}")]
    Missing(&'static str),
    /// The description is too long.
    #[error("its box.json is longer than 32 KiB, or no text")]
    Description,
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(#[from] io::Error),
    /// What is unpacked cannot be written.
    #[error("cannot write what is in it: {0}")]
    Write(io::Error),
}

/// Unpacks an archive: files go to `outputs`. Returns the description.
pub(crate) fn unpack(
    mut archive: impl BufRead,
    outputs: &mut [&mut dyn Write; MEMBERS.len()],
) -> Result<String, BoxArchiveError> {
    // The magic number of zstd (RFC 8878, section 3.1.1).
    if !archive.fill_buf()?.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(BoxArchiveError::NotOne);
    }
    let mut decoder = zstd::Decoder::with_buffer(archive)?;
    decoder.window_log_max(WINDOW)?;
    let mut tar = Archive::new(decoder.take(LARGEST));
    let mut description = None;
    let mut next = 0;
    tar.for_each(|_, member| {
        let name = member.path_bytes().into_owned();
        let shown = || String::from_utf8_lossy(&name).escape_debug().to_string();
        if !member.header().entry_type().is_file() {
            return Err(BoxArchiveError::NotAFile(shown()));
        }
        if description.is_none() {
            if name != DESCRIPTION.as_bytes() {
                return Err(BoxArchiveError::Unexpected(shown()));
            }
            let mut text = Vec::new();
            member
                .take(LONGEST_DESCRIPTION + 1)
                .read_to_end(&mut text)?;
            let short = text.len() as u64 <= LONGEST_DESCRIPTION;
            let text = String::from_utf8(text).ok().filter(|_| short);
            description = Some(text.ok_or(BoxArchiveError::Description)?);
            return Ok(());
        }
        let expected = MEMBERS.get(next).map(|name| name.as_bytes());
        let Some(output) = outputs
            .get_mut(next)
            .filter(|_| expected == Some(name.as_slice()))
        else {
            return Err(BoxArchiveError::Unexpected(shown()));
        };
        next += 1;
        copy(member, *output)
    })?;
    // To the end, where zstd has the checksum of the whole.
    let mut rest = tar.into_rest();
    copy(&mut rest, &mut io::sink())?;
    if next < NEEDED {
        let missing = MEMBERS.get(next).copied().unwrap_or_default();
        let missing = description.as_ref().map_or(DESCRIPTION, |_| missing);
        return Err(BoxArchiveError::Missing(missing));
    }
    description.ok_or(BoxArchiveError::Missing(DESCRIPTION))
}

fn copy(from: &mut impl Read, to: &mut dyn Write) -> Result<(), BoxArchiveError> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])
            .map_err(BoxArchiveError::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: tar::EntryType = tar::EntryType::Regular;

    fn archive(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            // As written, also what a careful library refuses.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        zstd::encode_all(tar.into_inner().unwrap().as_slice(), 1).unwrap()
    }

    fn unpacked(bytes: &[u8]) -> Result<(String, [Vec<u8>; 4]), BoxArchiveError> {
        let mut out: [Vec<u8>; 4] = Default::default();
        let [a, b, c, d] = &mut out;
        let text = unpack(bytes, &mut [a, b, c, d])?;
        Ok((text, out))
    }

    const BOX: [(&str, tar::EntryType, &[u8]); 5] = [
        ("box.json", FILE, b"{}"),
        ("kernel", FILE, b"k"),
        ("initrd", FILE, b""),
        ("disk.qcow2", FILE, b"d"),
        ("container", FILE, b"c"),
    ];

    #[test]
    fn a_box_is_unpacked() {
        let (text, [kernel, initrd, disk, container]) = unpacked(&archive(&BOX)).unwrap();
        assert_eq!(text, "{}");
        assert_eq!(
            (kernel, initrd, disk, container),
            (b"k".into(), vec![], b"d".into(), b"c".into())
        );
        assert!(unpacked(&archive(&BOX[..4])).is_ok());
    }

    #[test]
    fn what_is_no_exported_box_is_refused() {
        let link = tar::EntryType::Symlink;
        let long = vec![b' '; 40 << 10];
        let with = |at: usize, member: (&'static str, tar::EntryType, &'static [u8])| {
            let mut members = BOX.to_vec();
            members[at] = member;
            archive(&members)
        };
        for (bytes, text) in [
            (archive(&BOX[..3]), "ends before its member disk.qcow2"),
            (archive(&[]), "ends before its member box.json"),
            (archive(&BOX[1..]), "'kernel' is not where"),
            (
                with(1, ("../kernel", FILE, b"")),
                "'../kernel' is not where",
            ),
            (with(1, ("/etc/passwd", FILE, b"")), "is not where"),
            (with(1, ("kernel", link, b"")), "not a plain file"),
            (with(4, ("disk.qcow2", FILE, b"")), "is not where"),
            (archive(&[&BOX[..], &BOX[4..]].concat()), "is not where"),
            (archive(&[("box.json", FILE, &long)]), "longer than 32 KiB"),
            (
                b"<html>404</html>".to_vec(),
                "no archive of 'boxbuild box export'",
            ),
            (Vec::new(), "no archive"),
        ] {
            let error = unpacked(&bytes).unwrap_err().to_string();
            assert!(error.contains(text), "{text}: {error}");
        }
        let good = archive(&BOX);
        for cut in [5, good.len() / 2, good.len() - 1] {
            assert!(unpacked(&good[..cut]).is_err(), "{cut}");
        }
    }
}
