//! Archives of root trees: read whatever compresses them, and written.

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tar::{EntryType, Header};

use super::kind::Kind;
use super::section::Section;
use crate::compressed;
use crate::metered::{Archive, Entry};

/// Bytes that one archive may unpack to, more than the largest disk of a box.
const LARGEST: u64 = 1 << 40;

/// The archives of a root tree cannot be put together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// An archive cannot be read.
    #[error("its archive number {layer} cannot be read: {source}")]
    Read {
        /// Number of the archive, from 1.
        layer: usize,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The archive of the root tree cannot be written.
    #[error("cannot write the root tree: {0}")]
    Write(io::Error),
    /// An entry is refused.
    #[error("its entry '{entry}' {problem}")]
    Entry {
        /// Name of the entry.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An error without its place.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl LayerError {
    /// Adds the number of the archive, from 0, to an error of reading it.
    pub(super) fn of_layer(self, layer: usize) -> LayerError {
        match self {
            LayerError::Io(source) => LayerError::Read {
                layer: layer + 1,
                source,
            },
            other => other,
        }
    }
}

/// Opens an archive, which may be compressed with gzip, xz or zstd.
pub(crate) fn open(section: Section) -> io::Result<Archive<impl Read>> {
    Ok(Archive::new(reader(section)?.take(LARGEST)))
}

/// Decompresses what a file has as it is read.
pub(crate) fn reader(section: Section) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 20, section);
    if file.fill_buf()?.starts_with(b"BZh") {
        return Err(io::Error::other(
            "it is compressed with bzip2: unpack it first, or use gzip, xz or zstd",
        ));
    }
    compressed::reader(file)
}

/// Writes an entry as the file that the tree has of it, under its first name, and hard links to it
/// for the others. The content of a file also goes to `copies`.
///
/// The headers are new: what else those of the archive say (the length of a link, the prefix of a
/// name) would be read by the program that unpacks the result.
pub(super) fn append(
    builder: &mut tar::Builder<impl Write>,
    entry: &mut Entry<'_, impl Read>,
    kind: &Kind,
    names: &[&Vec<u8>],
    copies: &mut [&mut dyn Write],
) -> Result<(), LayerError> {
    let Some((first, others)) = names.split_first() else {
        return Ok(());
    };
    let write = LayerError::Write;
    let header = header(entry.header())?;
    append_xattrs(builder, entry)?;
    let first = path(first);
    let mut own = header.clone();
    match kind {
        Kind::Folder => {
            own.set_entry_type(EntryType::Directory);
            builder.append_data(&mut own, first, io::empty())
        }
        Kind::Fifo => {
            own.set_entry_type(EntryType::Fifo);
            builder.append_data(&mut own, first, io::empty())
        }
        Kind::Link(target) => {
            own.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut own, first, path(target))
        }
        Kind::File => {
            own.set_size(entry.size());
            let tee = Tee {
                from: entry,
                to: copies,
            };
            builder.append_data(&mut own, first, tee)
        }
    }
    .map_err(write)?;
    for name in others {
        let mut link = header.clone();
        link.set_entry_type(EntryType::Link);
        builder
            .append_link(&mut link, path(name), first)
            .map_err(write)?;
    }
    Ok(())
}

/// Returns the header of an empty file with the mode, the owner and the time of another one. Owners
/// and times that are not numbers become 0.
fn header(of: &Header) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(of.mode()?);
    header.set_uid(of.uid().unwrap_or_default());
    header.set_gid(of.gid().unwrap_or_default());
    header.set_mtime(of.mtime().unwrap_or_default());
    header.set_size(0);
    Ok(header)
}

/// Writes the extended attributes of an entry, which precede it.
fn append_xattrs(
    builder: &mut tar::Builder<impl Write>,
    entry: &mut Entry<'_, impl Read>,
) -> Result<(), LayerError> {
    let attributes: Vec<(String, Vec<u8>)> = entry
        .pax_extensions()
        .ok()
        .flatten()
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|extension| {
            let key = extension.key().ok()?;
            key.starts_with("SCHILY.xattr.")
                .then(|| (key.to_owned(), extension.value_bytes().to_vec()))
        })
        .collect();
    let attributes = attributes
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()));
    builder
        .append_pax_extensions(attributes)
        .map_err(LayerError::Write)
}

/// Returns the path of a name in an archive.
fn path(name: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(name))
}

/// Writes what is read to other places as well.
struct Tee<'a, 'b, R> {
    from: R,
    to: &'a mut [&'b mut dyn Write],
}

impl<R: Read> Read for Tee<'_, '_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        for writer in self.to.iter_mut() {
            writer.write_all(&buffer[..count])?;
        }
        Ok(count)
    }
}
