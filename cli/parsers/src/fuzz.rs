//! What was downloaded or imported, as any bytes: bodies for fuzzers, and tests that replay a
//! committed corpus and some hundred mutations of it (docs/fuzzing.md).
//!
//! Whatever the bytes are, these return: a panic, a hang or much memory is a bug.

#![allow(clippy::panic, reason = "how a fuzzer learns of a bug")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Seek, Write};

use crate::{boot, boot_archive, disk, listing, tree};

fn file(data: &[u8]) -> io::Result<File> {
    let mut file = memory_file()?;
    file.write_all(data)?;
    file.rewind()?;
    Ok(file)
}

/// A file in memory.
fn memory_file() -> io::Result<File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a string; the new descriptor has no other owner.
    let fd = unsafe { libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// A disk image: its facts, the kind of its root, and the disk written out if that is not too long.
pub fn qcow2(data: &[u8]) {
    /// Longest disk that is written out, in bytes.
    const LONGEST: u64 = 64 << 20;
    let Ok(image) = file(data)
        .map_err(Into::into)
        .and_then(|file| disk::open(file, true))
    else {
        return;
    };
    let _ = disk::facts(&image);
    let _ = boot::root_kind(&image, &[String::from("root=/dev/vda1")]);
    if let Ok(plain) = image.plain()
        && plain.size() <= LONGEST
    {
        let _ = plain.write_to(&mut io::sink());
    }
}

/// A result: what is listed of it, up to a limit.
pub fn listing(data: &[u8]) {
    /// Counts, and ends what is too long.
    struct Limited(usize);
    impl Write for Limited {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            if self.0 > 1 << 20 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    if let Ok(file) = file(data) {
        let _ = listing::list(file, &mut Limited(0));
    }
}

/// A kernel: a bzImage, and an ELF file.
pub fn kernel(data: &[u8]) {
    let _ = boot::kernel(data);
    let _ = boot::has_pvh_entry(data);
}

/// An initial ramdisk.
pub fn ramdisk(data: &[u8]) {
    for root in [None, Some("ext4")] {
        let _ = boot::ramdisk(data, root);
    }
}

/// Layers of a root tree: the first two bytes are the length of the first one. What comes out names
/// nothing outside of the tree, and is a tree.
pub fn layers(data: &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<2>() else {
        return;
    };
    let at = usize::from(u16::from_le_bytes(*length)).min(rest.len());
    let layers = [&rest[..at], &rest[at..]].map(|layer| file(&with_checksums(layer)));
    let Ok(layers) = layers.into_iter().collect() else {
        return;
    };
    if let Ok(merged) = tree::merge(layers, true) {
        assert_tree(&merged);
    }
}

/// Corrects the checksums of what may be headers of a tar archive: nothing else of them would be
/// reached.
fn with_checksums(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    for block in archive.chunks_exact_mut(512) {
        if block[257..].starts_with(b"ustar") {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
    archive
}

/// Fails unless each name of an archive occurs once, begins in the tree, and lies below folders.
fn assert_tree(archive: &[u8]) {
    let mut kinds = HashMap::new();
    let mut entries = tar::Archive::new(archive);
    for entry in entries.entries().into_iter().flatten() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => panic!("not an archive: {error}"),
        };
        let name = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&name).into_owned();
        let is_inside =
            !name.starts_with(b"/") && name.split(|byte| *byte == b'/').all(|part| part != b"..");
        assert!(is_inside, "{shown}");
        let kind = entry.header().entry_type();
        assert!(kinds.insert(name, kind).is_none(), "{shown} twice");
    }
    for name in kinds.keys() {
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            let above = kinds.get(&name[..at]);
            let shown = String::from_utf8_lossy(name);
            assert!(above.is_none_or(tar::EntryType::is_dir), "{shown}");
        }
    }
}

/// The archive with a kernel; compressed here if it is not, since few changes of a compressed one pass
/// its checksums.
pub fn boot_archive(data: &[u8]) {
    let (mut kernel, mut initrd) = (io::sink(), io::sink());
    let packed = if data.starts_with(b"\xfd7zXZ\0") {
        data.to_vec()
    } else {
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        match xz
            .write_all(&with_checksums(data))
            .and_then(|()| xz.finish())
        {
            Ok(packed) => packed,
            Err(_) => return,
        }
    };
    let _ = boot_archive::unpack(packed.as_slice(), &mut kernel, Some(&mut initrd));
}

#[cfg(test)]
mod tests {
    use boxbuild_replay::replay;

    #[test]
    fn boot_archive() {
        replay("boot_archive", super::boot_archive, 1000);
    }

    #[test]
    fn kernel() {
        replay("kernel", super::kernel, 1000);
    }

    #[test]
    fn layers() {
        replay("layers", super::layers, 1000);
    }

    #[test]
    fn listing() {
        replay("listing", super::listing, 1000);
    }

    #[test]
    fn qcow2() {
        replay("qcow2", super::qcow2, 1000);
    }

    #[test]
    fn ramdisk() {
        replay("ramdisk", super::ramdisk, 1000);
    }
}
