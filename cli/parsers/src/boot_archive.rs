//! The archive with a box's kernel and initial ramdisk (`.tar.xz`).
//!
//! Only the contents of two members are extracted: no name in the archive becomes a path. All sizes
//! are bounded, and so is the decoder's memory.

use std::io::{self, BufRead, Read, Write};

use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream};

use crate::metered::Archive;

/// Memory limit of the decoder in bytes: `xz -9` needs 65 MiB.
const DECODER_MEMORY: u64 = 256 << 20;
/// Larger than any kernel or initial ramdisk, in bytes.
const LARGEST_MEMBER: u64 = 1 << 30;
/// Bytes that the archive may unpack to in all.
const LARGEST_ARCHIVE: u64 = 4 << 30;

/// The archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    /// A member is missing.
    #[error("it has no member *.{0}")]
    Missing(&'static str),
    /// A member is there twice.
    #[error("it has more than one member *.{0}")]
    Twice(&'static str),
    /// A member is not a plain file.
    #[error("its member {0} is not a plain file")]
    NotAFile(String),
    /// It is too large.
    #[error("it unpacks to more than {} MiB", .0 >> 20)]
    TooLarge(u64),
    /// It is damaged, or not an archive.
    #[error("it is damaged: {0}")]
    Damaged(#[from] io::Error),
    /// What is unpacked cannot be written.
    #[error("cannot write what is in it: {0}")]
    Write(io::Error),
}

/// Unpacks an archive.
pub(crate) fn unpack(
    archive: impl BufRead,
    kernel: &mut dyn Write,
    mut initrd: Option<&mut dyn Write>,
) -> Result<(), UnpackError> {
    let decoder = Stream::new_stream_decoder(DECODER_MEMORY, CONCATENATED)
        .map_err(|error| UnpackError::Damaged(error.into()))?;
    let plain = XzDecoder::new_stream(archive, decoder).take(LARGEST_ARCHIVE);
    let mut tar = Archive::new(plain);
    let is_wanted = initrd.is_some();
    let (mut has_kernel, mut has_initrd) = (false, false);
    tar.for_each(|_, member| {
        let name = member.path_bytes().into_owned();
        let (found, kind) = if name.ends_with(b".kernel") {
            (&mut has_kernel, "kernel")
        } else if is_wanted && name.ends_with(b".initrd") {
            (&mut has_initrd, "initrd")
        } else {
            return Ok(());
        };
        if !member.header().entry_type().is_file() {
            let name = String::from_utf8_lossy(&name).escape_debug().to_string();
            return Err(UnpackError::NotAFile(name));
        }
        if *found {
            return Err(UnpackError::Twice(kind));
        }
        *found = true;
        match (kind, &mut initrd) {
            ("initrd", Some(initrd)) => copy(member, *initrd, LARGEST_MEMBER),
            _ => copy(member, &mut *kernel, LARGEST_MEMBER),
        }
    })?;
    // To the end, where xz has the checksum of the whole.
    let mut plain = tar.into_rest();
    copy(&mut plain, &mut io::sink(), u64::MAX)?;
    if plain.limit() == 0 {
        return Err(UnpackError::TooLarge(LARGEST_ARCHIVE));
    }
    if is_wanted && !has_initrd {
        return Err(UnpackError::Missing("initrd"));
    }
    if !has_kernel {
        return Err(UnpackError::Missing("kernel"));
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut dyn Write, largest: u64) -> Result<(), UnpackError> {
    let mut size = 0;
    let mut buffer = vec![0; 128 << 10];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        size += count as u64;
        if size > largest {
            return Err(UnpackError::TooLarge(largest));
        }
        to.write_all(&buffer[..count]).map_err(UnpackError::Write)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, content) in members {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o4777);
            if *kind == tar::EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            // As written, also what a careful library refuses.
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(&tar.into_inner().unwrap()).unwrap();
        xz.finish().unwrap()
    }

    /// Kernel and initial ramdisk.
    fn unpacked(bytes: &[u8]) -> Result<(Vec<u8>, Vec<u8>), UnpackError> {
        let (mut kernel, mut initrd) = (Vec::new(), Vec::new());
        unpack(bytes, &mut kernel, Some(&mut initrd))?;
        Ok((kernel, initrd))
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;

    #[test]
    fn kernel_and_initrd_are_unpacked() {
        let bytes = archive(&[
            ("README", FILE, b"x"),
            ("a/Leap.x86_64-1.0.kernel", FILE, b"kernel"),
            ("../../b.initrd", FILE, &[7; 100_000]),
        ]);
        let (kernel, initrd) = unpacked(&bytes).unwrap();
        assert_eq!((kernel.as_slice(), initrd.len()), (&b"kernel"[..], 100_000));
        let mut kernel = Vec::new();
        unpack(bytes.as_slice(), &mut kernel, None).unwrap();
        assert_eq!(kernel, b"kernel");
    }

    #[test]
    fn errors_tell_what_is_wrong() {
        let link = tar::EntryType::Symlink;
        let initrd = ("x.initrd", FILE, &b"i"[..]);
        let kernel = ("x.kernel", FILE, &b"k"[..]);
        for (members, text) in [
            (vec![initrd], "no member *.kernel"),
            (vec![kernel], "no member *.initrd"),
            (vec![kernel, kernel, initrd], "more than one"),
            (
                vec![("x.kernel", link, &b""[..]), initrd],
                "not a plain file",
            ),
        ] {
            let error = unpacked(&archive(&members)).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
        let good = archive(&[kernel, initrd]);
        for cut in [0, 5, good.len() / 2, good.len() - 1] {
            assert!(unpacked(&good[..cut]).is_err(), "{cut}");
        }
        let mut flipped = good.clone();
        let middle = good.len() / 2;
        flipped[middle] ^= 0xff;
        assert!(unpacked(&flipped).is_err());
        assert!(unpacked(b"<html>404</html>").is_err());
    }
}
