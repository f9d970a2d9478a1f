//! Archives of root trees: read whatever compresses them, and written.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use boxbuild_host::error::{ClassifiedError, Classify, ErrorClass, IoError};
use tar::EntryType;

use crate::source::error::SourceError;

/// The archives of a root tree cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// An archive cannot be read.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The archive of the root tree cannot be written.
    #[error("cannot write the root tree")]
    Write(#[source] io::Error),
    /// An entry is refused.
    #[error("{path} is refused: its entry '{entry}' {problem}")]
    Entry {
        /// Path of the archive.
        path: PathBuf,
        /// Name of the entry.
        entry: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Classify for LayerError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Host
    }
}

impl From<LayerError> for SourceError {
    fn from(error: LayerError) -> SourceError {
        SourceError::Other(ClassifiedError::new(error))
    }
}

/// Opens an archive, which may be compressed with gzip, xz or zstd.
///
/// # Errors
/// Fails if it cannot be read.
pub(super) fn open(path: &Path) -> Result<tar::Archive<Box<dyn Read>>, LayerError> {
    let reader = reader(path).map_err(IoError::on("read", path))?;
    Ok(tar::Archive::new(reader))
}

/// Opens a file, and decompresses what it has as it is read.
fn reader(path: &Path) -> io::Result<Box<dyn Read>> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let magic = file.fill_buf()?;
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if magic.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(file))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else if magic.starts_with(b"BZh") {
        return Err(io::Error::other(
            "it is compressed with bzip2: unpack it first, or use gzip, xz or zstd",
        ));
    } else {
        Box::new(file)
    })
}

/// Writes an entry under its first name, and hard links to it for the others. If one of the names is
/// in `copies`, its content is also written to the path there.
pub(super) fn append(
    builder: &mut tar::Builder<impl Write>,
    entry: &mut tar::Entry<'_, impl Read>,
    names: &[&Vec<u8>],
    copies: &[(Vec<u8>, PathBuf)],
) -> Result<(), LayerError> {
    let Some((first, others)) = names.split_first() else {
        return Ok(());
    };
    let write = LayerError::Write;
    let mut header = entry.header().clone();
    append_xattrs(builder, entry)?;
    let first = path(first);
    if let Some(target) = entry.link_name_bytes().map(Cow::into_owned) {
        builder
            .append_link(&mut header, first, path(&target))
            .map_err(write)?;
    } else {
        let size = entry.size();
        header.set_size(size);
        if header.entry_type() == EntryType::GNUSparse {
            header.set_entry_type(EntryType::Regular);
        }
        let copy = copies.iter().find(|(copied, _)| names.contains(&copied));
        match copy {
            None => builder
                .append_data(&mut header, first, entry)
                .map_err(write)?,
            Some((_, to)) => {
                let mut file = File::create(to).map_err(write)?;
                io::copy(entry, &mut file).map_err(write)?;
                let file = File::open(to).map_err(write)?;
                builder
                    .append_data(&mut header, first, file)
                    .map_err(write)?;
            }
        }
    }
    for name in others {
        let mut header = header.clone();
        header.set_entry_type(EntryType::Link);
        header.set_size(0);
        builder
            .append_link(&mut header, path(name), first)
            .map_err(write)?;
    }
    Ok(())
}

/// Writes the extended attributes of an entry, which precede it.
fn append_xattrs(
    builder: &mut tar::Builder<impl Write>,
    entry: &mut tar::Entry<'_, impl Read>,
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
