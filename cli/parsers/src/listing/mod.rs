//! What is in a result, line by line, so that two can be compared: the entries of an archive and of archives
//! in it, the fields of partition tables and superblocks, and a checksum for each piece of a disk.
//!
//! | line | |
//! |---|---|
//! | `entry`, path, facts | an entry of an archive; its content is a SHA-256 |
//! | `field`, place, value | a field of a header |
//! | `piece`, offset, SHA-256 | a piece of [`PIECE`] bytes of a disk; pieces of zeros are left out |
//!
//! Fields of a line are separated by tabs; control characters, tabs and backslashes of names are escaped.

mod field;
mod headers;
mod members;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

use boxbuild_vmm::disk::{Image, SECTOR};
use sha2::{Digest, Sha256};

use crate::disk;
use field::{LARGEST, hex};
use members::Unpacked;

/// Bytes of a disk that have a checksum.
pub const PIECE: u64 = 1 << 20;

/// First bytes of a qcow2 image (QEMU, docs/interop/qcow2.rst).
const QCOW2: [u8; 4] = *b"QFI\xfb";

/// Lists what is in `file`, as `out` gets it.
///
/// # Errors
/// Fails if it is damaged, or `out` cannot be written.
pub(crate) fn list(file: File, out: &mut dyn Write) -> io::Result<()> {
    let mut head = [0; QCOW2.len()];
    let count = file.read_at(&mut head, 0)?;
    if count == head.len() && head == QCOW2 {
        let image = disk::open(file, true).map_err(io::Error::other)?;
        return of_disk(&image, out);
    }
    (&file).seek(SeekFrom::Start(0))?;
    match members::open(Box::new(&file))? {
        Unpacked::Archive(archive) => members::list(archive, out),
        // A disk, compressed or not, or anything else.
        Unpacked::Other(stream) => of_stream(stream, out),
    }
}

/// Lists a disk that can be read at any place.
fn of_disk(image: &Image, out: &mut dyn Write) -> io::Result<()> {
    let mut at = 0;
    let read = |buffer: &mut [u8]| {
        let left = image.len().saturating_sub(at);
        let count = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let whole = count as u64 / SECTOR * SECTOR;
        let count = usize::try_from(whole).unwrap_or(0);
        image.read_at(at, &mut buffer[..count])?;
        at += count as u64;
        Ok(count)
    };
    of_stream(From(read), out)
}

/// A reader that is a function.
struct From<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for From<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.0)(buffer)
    }
}

/// Lists the pieces of a stream, with the headers in its beginning.
fn of_stream(stream: impl Read, out: &mut dyn Write) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(PIECE as usize, stream.take(LARGEST));
    let mut piece = vec![0; PIECE as usize];
    let mut tables = headers::Tables::default();
    let mut at = 0;
    loop {
        let count = fill(&mut stream, &mut piece)?;
        let bytes = &piece[..count];
        if at == 0 {
            tables = headers::Tables::read(bytes, out)?;
        }
        tables.superblocks(at, bytes, out)?;
        if bytes.iter().any(|byte| *byte != 0) {
            let sum = hex(&Sha256::digest(bytes));
            writeln!(out, "piece\t{at}\t{sum}")?;
        }
        at += count as u64;
        if count < piece.len() {
            writeln!(out, "field\tlength\t{at}")?;
            return Ok(());
        }
    }
}

fn fill(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match stream.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn listed(bytes: &[u8]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let mut out = Vec::new();
        list(file, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o640);
            header.set_mtime(7);
            builder
                .append_data(&mut header, name, Cursor::new(content))
                .unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn entries_of_archives_in_archives_are_listed() {
        let layer = archive(&[("etc/a\tb", b"x")]);
        let mut packed = Vec::new();
        let mut encoder = flate2::write::GzEncoder::new(&mut packed, flate2::Compression::fast());
        encoder.write_all(&layer).unwrap();
        encoder.finish().unwrap();
        let image = archive(&[("blobs/sha256/00", &packed), ("index.json", b"{}")]);
        let text = listed(&image);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(
            lines[0].starts_with("entry\tarchive 1: etc/a\\u{9}b\t"),
            "{text}"
        );
        assert!(
            lines[0].contains("mode=640") && lines[0].contains("mtime=7"),
            "{text}"
        );
        assert!(lines[1].starts_with("entry\tindex.json\t") && lines[1].contains("sha256="));
    }

    #[test]
    fn sparse_files_have_contents_and_targets_of_links_are_words() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder
            .append_link(&mut link, "link", "a target=b")
            .unwrap();
        let mut sparse = tar::Header::new_gnu();
        sparse.set_entry_type(tar::EntryType::GNUSparse);
        sparse.set_path("sparse").unwrap();
        sparse.set_size(512);
        let gnu = sparse.as_gnu_mut().unwrap();
        gnu.sparse[0].set_offset(512);
        gnu.sparse[0].set_length(512);
        gnu.set_real_size(1024);
        sparse.set_cksum();
        builder.append(&sparse, &[7; 512][..]).unwrap();
        let text = listed(&builder.into_inner().unwrap());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with(" link=a\\u{20}target=b"), "{text}");
        let mut whole = vec![0; 512];
        whole.extend([7; 512]);
        let sum = hex(&Sha256::digest(&whole));
        assert!(lines[1].ends_with(&format!("sha256={sum}")), "{text}");
    }

    #[test]
    fn tables_superblocks_and_pieces_of_a_disk_are_listed() {
        let mut disk = vec![0; 3 << 20];
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[446 + 4] = 0x83;
        // The second piece begins with the partition.
        disk[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
        let start = 1 << 20;
        disk[start + 1080..start + 1082].copy_from_slice(&[0x53, 0xef]);
        disk[start + 1024 + 0x68] = 0xab;
        let text = listed(&disk);
        assert!(
            text.contains("field\text4 at 1048576, UUID\tab00"),
            "{text}"
        );
        assert!(text.contains("entry 1\ttype=0x83 start=2048"), "{text}");
        let pieces: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("piece"))
            .collect();
        assert_eq!(pieces.len(), 2, "{text}");
    }
}
