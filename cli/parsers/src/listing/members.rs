//! Entries of archives, and of archives in them.

use std::io::{self, BufReader, Read, Write};

use sha2::{Digest, Sha256};
use tar::EntryType;

use super::field::{LARGEST, escaped, hex};
use crate::compressed;
use crate::metered::{Archive, Entry};

/// Bytes at the beginning that tell what a file is.
const HEAD: usize = 512;
/// Entries that are listed, at most.
const MOST: usize = 2_000_000;
/// How deep archives may be in archives: a container image has layers.
const DEEPEST: usize = 2;

/// A file, unpacked.
pub(super) enum Unpacked<'a> {
    /// An archive.
    Archive(Box<dyn Read + 'a>),
    /// Anything else.
    Other(Box<dyn Read + 'a>),
}

/// Unpacks a file from its beginning.
pub(super) fn open<'a>(file: Box<dyn Read + 'a>) -> io::Result<Unpacked<'a>> {
    let mut stream = compressed::reader(BufReader::with_capacity(1 << 20, file))?;
    let mut head = Vec::new();
    stream.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    let is_archive = is_tar(&head);
    let stream = Box::new(io::Cursor::new(head).chain(stream));
    Ok(match is_archive {
        true => Unpacked::Archive(stream),
        false => Unpacked::Other(stream),
    })
}

/// Whether bytes are the beginning of a tar archive (POSIX, "ustar Interchange Format").
fn is_tar(head: &[u8]) -> bool {
    head.len() >= HEAD && &head[257..262] == b"ustar"
}

/// Lists the entries of an archive.
pub(super) fn list(archive: Box<dyn Read + '_>, out: &mut dyn Write) -> io::Result<()> {
    let mut count = 0;
    let mut inside = 0;
    walk(archive, "", 0, &mut count, &mut inside, out)
}

/// `inside` counts the archives in it: those of container images are named by their contents, so that
/// names would tell nothing.
fn walk(
    archive: Box<dyn Read + '_>,
    prefix: &str,
    depth: usize,
    count: &mut usize,
    inside: &mut usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut archive = Archive::new(archive.take(LARGEST));
    archive.for_each(|_, entry| {
        *count += 1;
        if *count > MOST {
            return Err(io::Error::other("it has too many entries"));
        }
        let facts = facts(entry);
        let name = format!("{prefix}{}", escaped(&entry.path_bytes()));
        let kind = entry.header().entry_type();
        let has_content = [
            EntryType::Regular,
            EntryType::Continuous,
            EntryType::GNUSparse,
        ];
        if !has_content.contains(&kind) {
            return writeln!(out, "entry\t{name}\t{facts}");
        }
        let mut head = Vec::new();
        entry.take(HEAD as u64).read_to_end(&mut head)?;
        let is_archive =
            is_tar(&head) || (compressed::is_compressed(&head) && name.contains("blobs/"));
        if is_archive && depth < DEEPEST {
            *inside += 1;
            let prefix = format!("{prefix}archive {inside}: ");
            return nested(&head, entry, &prefix, depth, count, inside, out);
        }
        let sum = sum(&head, entry)?;
        writeln!(out, "entry\t{name}\t{facts} sha256={sum}")
    })
}

fn nested(
    head: &[u8],
    entry: &mut Entry<'_, impl Read>,
    prefix: &str,
    depth: usize,
    count: &mut usize,
    inside: &mut usize,
    out: &mut dyn Write,
) -> io::Result<()> {
    // A decoder owns what it reads: an archive in an archive is in memory, up to a limit.
    const LARGEST_INSIDE: u64 = 1 << 30;
    let mut bytes = head.to_vec();
    entry.take(LARGEST_INSIDE).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST_INSIDE {
        let sum = sum(&bytes, entry)?;
        return writeln!(out, "entry\t{prefix}\tpacked sha256={sum}");
    }
    match open(Box::new(io::Cursor::new(bytes)))? {
        Unpacked::Archive(archive) => walk(archive, prefix, depth + 1, count, inside, out),
        Unpacked::Other(mut stream) => {
            let sum = sum(&[], &mut stream.by_ref().take(LARGEST))?;
            writeln!(out, "entry\t{prefix}\tunpacked sha256={sum}")
        }
    }
}

fn sum(head: &[u8], rest: &mut impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    hash.update(head);
    let mut buffer = vec![0; 256 << 10];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(count) => hash.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A text as a word: a space ends a fact.
fn word(text: &[u8]) -> String {
    escaped(text).replace(' ', "\\u{20}")
}

/// What an archive says of an entry besides its content.
fn facts(entry: &mut Entry<'_, impl Read>) -> String {
    let number =
        |value: io::Result<u64>| value.map_or(String::from("?"), |value| value.to_string());
    let header = entry.header().clone();
    let mode = header
        .mode()
        .map_or(String::from("?"), |mode| format!("{mode:o}"));
    let kind = header.entry_type().as_byte();
    let mut text = format!(
        "type={} mode={mode} uid={} gid={} size={} mtime={}",
        word(&[kind]),
        number(header.uid()),
        number(header.gid()),
        entry.size(),
        number(header.mtime()),
    );
    if let Some(target) = entry.link_name_bytes() {
        text += &format!(" link={}", word(&target));
    }
    let extensions = entry.pax_extensions().ok().flatten();
    for extension in extensions.into_iter().flatten().filter_map(Result::ok) {
        let (key, value) = (extension.key_bytes(), extension.value_bytes());
        // The header has these already.
        if !["path", "linkpath", "size"]
            .iter()
            .any(|own| key == own.as_bytes())
        {
            text += &format!(" {}={}", word(key), word(value));
        }
    }
    text
}
