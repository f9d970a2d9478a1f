//! What was downloaded or imported, as any bytes: bodies for fuzzers, and tests that replay a
//! committed corpus and some hundred mutations of it (docs/fuzzing.md).
//!
//! Whatever the bytes are, these return: a panic, a hang or much memory is a bug.

use std::fs::File;
use std::io::{Seek, Write};

use crate::{boot, boot_archive, disk, tree};

fn file(data: &[u8]) -> std::io::Result<File> {
    let mut file = memory_file()?;
    file.write_all(data)?;
    file.rewind()?;
    Ok(file)
}

/// A file in memory.
fn memory_file() -> std::io::Result<File> {
    use std::os::fd::FromRawFd;
    // SAFETY: the name is a string; the new descriptor has no other owner.
    let fd = unsafe { libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
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
        let _ = plain.write_to(&mut std::io::sink());
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
    let layers = [&rest[..at], &rest[at..]].map(file);
    let Ok(layers) = layers.into_iter().collect() else {
        return;
    };
    let Ok(merged) = tree::merge(layers, true) else {
        return;
    };
    let Ok(entries) = file(&merged).map(tar::Archive::new) else {
        return;
    };
    let mut entries = entries;
    for entry in entries.entries().into_iter().flatten().flatten() {
        let name = entry.path_bytes().into_owned();
        let good =
            !name.starts_with(b"/") && name.split(|byte| *byte == b'/').all(|part| part != b"..");
        assert!(good, "{}", String::from_utf8_lossy(&name));
    }
}

/// The archive with a kernel.
pub fn boot_archive(data: &[u8]) {
    let (mut kernel, mut initrd) = (std::io::sink(), std::io::sink());
    let _ = boot_archive::unpack(data, &mut kernel, Some(&mut initrd));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// A linear congruential generator: the same mutations in each run (Knuth, The Art of
    /// Computer Programming, volume 2, 3.3.4, table 1, line 26).
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            let (a, c) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
            self.0 = self.0.wrapping_mul(a).wrapping_add(c);
            (self.0 >> 33) as usize % limit.max(1)
        }
    }

    fn mutate(data: &mut Vec<u8>, random: &mut Random) {
        for _ in 0..=random.below(8) {
            let at = random.below(data.len());
            match random.below(8) {
                0 => data.insert(at, random.below(256) as u8),
                1 if !data.is_empty() => {
                    data.remove(at);
                }
                2 => data.truncate(at + 1),
                _ => {
                    let interesting = [0, 1, 2, 0x7f, 0x80, 0xff, random.below(256) as u8];
                    if let Some(byte) = data.get_mut(at) {
                        *byte = interesting[random.below(interesting.len())];
                    }
                }
            }
        }
    }

    fn replay(target: &str, body: fn(&[u8]), mutations: usize) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fuzz/corpus")
            .join(target);
        let mut names: Vec<_> = std::fs::read_dir(&corpus)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        names.sort();
        assert!(!names.is_empty(), "no corpus in {}", corpus.display());
        let mut random = Random(1);
        for name in &names {
            let seed = std::fs::read(name).unwrap();
            body(&seed);
            for _ in 0..mutations / names.len() {
                let mut data = seed.clone();
                mutate(&mut data, &mut random);
                body(&data);
            }
        }
    }

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
    fn qcow2() {
        replay("qcow2", super::qcow2, 1000);
    }

    #[test]
    fn ramdisk() {
        replay("ramdisk", super::ramdisk, 1000);
    }
}
