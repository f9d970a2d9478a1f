//! What is in an archive or a compressed file, and one of its parts.

use std::fs::File;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::tree::{Section, open_archive, reader};

/// Longest name of a part that is told, in bytes, and most parts.
const LONGEST_NAME: usize = 200;
const MOST_PARTS: usize = 200;
/// Deepest part that can be an image.
const DEEPEST: usize = 3;
/// Bytes of a file that tell whether it is an archive: its first header.
const HEADER: usize = 512;
/// Bytes that a file may unpack to.
const LARGEST: u64 = 1 << 40;
/// Folders of a root tree, and how many of them tell that an archive is one.
const ROOT: [&str; 14] = [
    "bin", "boot", "dev", "etc", "home", "lib", "opt", "proc", "root", "run", "sbin", "sys", "usr",
    "var",
];
const ENOUGH: usize = 4;

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Survey {
    /// One file, compressed or not.
    Single,
    /// A container image in the OCI layout, with its files.
    Oci(Vec<Part>),
    /// A container image as `docker save` writes it, with its files.
    Docker(Vec<Part>),
    /// A root tree.
    Root,
    /// Other files.
    Parts(Vec<Part>),
}

/// A regular file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its number among all entries.
    pub number: usize,
    /// Its name, without leading `./`. Bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Its length.
    pub size: u64,
}

/// Looks at what is in `file`.
pub(crate) fn survey(file: File) -> io::Result<Survey> {
    let whole = Section::whole(file);
    let mut header = [0; HEADER];
    let mut start = reader(whole.clone())?;
    let is_archive = match start.read_exact(&mut header) {
        Ok(()) => is_tar(&header),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
        Err(error) => return Err(error),
    };
    drop(start);
    if !is_archive {
        return Ok(Survey::Single);
    }
    let mut parts = Vec::new();
    let mut folders: Vec<&str> = Vec::new();
    let mut marks = Marks::default();
    /// Ends the search early.
    const SEEN: &str = "enough seen";
    let result = open_archive(whole)?.for_each::<io::Error>(|number, entry| {
        let name = entry.path_bytes();
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        let name = String::from_utf8_lossy(name);
        let first = name.split('/').next().unwrap_or_default();
        let known = ROOT.iter().find(|folder| **folder == first);
        if let Some(folder) = known
            && !folders.contains(folder)
        {
            folders.push(folder);
        }
        let regular =
            entry.header().entry_type().is_file() || entry.header().entry_type().is_gnu_sparse();
        marks.see(&name);
        let near = name.split('/').count() <= DEEPEST && name.len() <= LONGEST_NAME;
        if regular && near && parts.len() < MOST_PARTS {
            parts.push(Part {
                number,
                name: name.into_owned(),
                size: entry.size(),
            });
        }
        let enough = folders.len() >= ENOUGH;
        if enough {
            Err(io::Error::other(SEEN))
        } else {
            Ok(())
        }
    });
    match result {
        Err(error) if error.to_string() == SEEN => return Ok(Survey::Root),
        result => result?,
    }
    Ok(if marks.index && marks.layout {
        Survey::Oci(parts)
    } else if marks.manifest && marks.layer {
        Survey::Docker(parts)
    } else if folders.len() >= 2 {
        // A small one, such as that of an appliance with one program.
        Survey::Root
    } else {
        Survey::Parts(parts)
    })
}

/// What tells that an archive is a container image.
#[derive(Debug, Default)]
struct Marks {
    /// Of the OCI layout.
    layout: bool,
    index: bool,
    /// Of `docker save`. An archive for Google has a file of the first name, too.
    manifest: bool,
    layer: bool,
}

impl Marks {
    fn see(&mut self, name: &str) {
        self.layout |= name == "oci-layout";
        self.index |= name == "index.json";
        self.manifest |= name == "manifest.json";
        self.layer |= name.ends_with(".tar");
    }
}

/// Writes what is in the entry `number` of an archive.
pub(crate) fn part(file: File, number: usize, out: &mut dyn Write) -> io::Result<()> {
    /// Ends the search early.
    const DONE: &str = "the part is written";
    let result = open_archive(Section::whole(file))?.for_each::<io::Error>(|at, entry| {
        if at < number {
            return Ok(());
        }
        io::copy(entry, out)?;
        Err(io::Error::other(DONE))
    });
    match result {
        Err(error) if error.to_string() == DONE => Ok(()),
        Err(error) => Err(error),
        Ok(()) => Err(io::Error::other("it has no such part")),
    }
}

/// Writes what a compressed file unpacks to.
pub(crate) fn unpack(file: File, out: &mut dyn Write) -> io::Result<()> {
    let mut plain = reader(Section::whole(file))?.take(LARGEST);
    io::copy(&mut plain, out)?;
    if plain.limit() == 0 {
        let text = format!("it unpacks to more than {} GiB", LARGEST >> 30);
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// Whether a block is the header of a tar archive: its checksum is right (POSIX.1-2017, pax, "ustar
/// Interchange Format"; the old format has the same).
fn is_tar(block: &[u8; HEADER]) -> bool {
    const SUM: std::ops::Range<usize> = 148..156;
    let sum: u32 = block
        .iter()
        .enumerate()
        .map(|(at, byte)| {
            if SUM.contains(&at) {
                u32::from(b' ')
            } else {
                u32::from(*byte)
            }
        })
        .sum();
    let text = String::from_utf8_lossy(&block[SUM]);
    let text = text.trim_matches(|char| matches!(char, ' ' | '\0'));
    u32::from_str_radix(text, 8).is_ok_and(|written| written == sum)
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    fn archive(names: &[&str]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for name in names {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(name.len() as u64);
            builder
                .append_data(&mut header, name, name.as_bytes())
                .unwrap();
        }
        let mut file = builder.into_inner().unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn archives_are_told_apart_by_what_is_in_them() {
        let of = |names: &[&str]| survey(archive(names)).unwrap();
        let Survey::Oci(parts) = of(&["oci-layout", "index.json", "blobs/sha256/x"]) else {
            panic!("it is in the OCI layout");
        };
        assert_eq!(
            (parts[2].number, parts[2].name.as_str()),
            (2, "blobs/sha256/x")
        );
        assert!(matches!(
            of(&["manifest.json", "x.tar", "x.json"]),
            Survey::Docker(_)
        ));
        // KIWI's for Google, with a tag.
        assert!(matches!(
            of(&["disk.raw", "manifest.json"]),
            Survey::Parts(_)
        ));
        assert_eq!(
            of(&["bin/sh", "dev/null", "etc/passwd", "usr/x"]),
            Survey::Root
        );
        assert_eq!(of(&["bin/sh", "etc/passwd"]), Survey::Root);
        let Survey::Parts(parts) = of(&["a.ovf", "a.vmdk"]) else {
            panic!("it has parts");
        };
        assert_eq!(
            (parts[1].number, parts[1].name.as_str(), parts[1].size),
            (1, "a.vmdk", 6)
        );
    }

    #[test]
    fn a_part_is_found_by_its_number_and_a_compressed_file_is_unpacked() {
        let mut out = Vec::new();
        part(archive(&["a", "bb", "ccc"]), 1, &mut out).unwrap();
        assert_eq!(out, b"bb");
        assert!(part(archive(&["a"]), 3, &mut io::sink()).is_err());
        for packed in [
            zstd::encode_all(&[7; 5000][..], 1).unwrap(),
            {
                let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
                xz.write_all(&[7; 5000]).unwrap();
                xz.finish().unwrap()
            },
            vec![7; 5000],
        ] {
            let file = || {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(&packed).unwrap();
                file.rewind().unwrap();
                file
            };
            assert_eq!(survey(file()).unwrap(), Survey::Single);
            let mut out = Vec::new();
            unpack(file(), &mut out).unwrap();
            assert_eq!(out, [7; 5000]);
        }
    }
}
