//! The contents of a box, of its published files.

use std::fs;
use std::path::Path;

use boxbuild_host::error::IoError;
use boxbuild_host::input;
use boxbuild_parsers::{Output, Parser};

use super::entry::Entry;
use crate::fetch::FetchedFile;
use crate::source::box_source::Making;
use crate::source::contents::{BoxContents, DiskError, write_empty_initrd, write_plain_disk};
use crate::source::error::SourceError;
use crate::store::HashedFile;

/// Larger than any kernel or initial ramdisk, in bytes.
const LARGEST: u64 = 1 << 30;

/// How a disk becomes part of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskForm {
    /// A compressed one is unpacked, another one linked.
    Plain,
    /// It is linked.
    AsIs,
}

/// The files that are published, on this host.
#[derive(Debug)]
pub(super) struct PublishedFiles<'a> {
    /// The archive with the kernel.
    pub(super) archive: &'a Path,
    pub(super) disk: &'a Path,
    /// The two, as they are published.
    pub(super) fetched: &'a [FetchedFile; 2],
}

/// Puts a box together in the staging folder.
pub(super) fn assemble(
    entry: &Entry<'_>,
    making: &mut Making<'_>,
    files: &PublishedFiles<'_>,
    form: DiskForm,
) -> Result<BoxContents, SourceError> {
    let mut contents = entry.contents();
    unpack_archive(entry, making, files.archive, &mut contents)?;
    add_disk(entry, making, files, form, &mut contents)?;
    contents.published = Some(entry.record(files.fetched));
    Ok(contents)
}

/// Adds the disk.
fn add_disk(
    entry: &Entry<'_>,
    making: &mut Making<'_>,
    files: &PublishedFiles<'_>,
    form: DiskForm,
    contents: &mut BoxContents,
) -> Result<(), SourceError> {
    let (staging, disk) = (making.staging, files.disk);
    let unusable = |source| SourceError::Parse {
        context: format!(
            "the disk of the box '{}' cannot be used, though it is what is published",
            entry.name()
        ),
        source,
    };
    let parser = Parser::new(making.interrupt.clone());
    let image = input::open(disk).map_err(IoError::on("read", disk))?;
    let facts = parser.disk(&image, true).map_err(unusable)?;
    contents.disk_size = facts.len;
    contents.disk = if form == DiskForm::Plain && facts.is_compressed {
        making.reporter.begin("unpack the disk");
        write_plain_disk(&parser, &image, staging, &contents.disk.name).map_err(
            |error| match error {
                DiskError::Parse(source) => unusable(source),
                DiskError::Store(error) => error.into(),
                DiskError::Io(error) => error.into(),
            },
        )?
    } else {
        let to = staging.path().join(&contents.disk.name);
        // A link keeps the fetched file until the box is published. Not every file system has them.
        fs::hard_link(disk, &to)
            .or_else(|_| fs::rename(disk, &to))
            .map_err(IoError::on("create", &to))?;
        let [_, published] = files.fetched;
        staging.adopt(
            &contents.disk.name,
            published.size,
            published.sha256.clone(),
        )?
    };
    Ok(())
}

/// Adds kernel and initial ramdisk. A box that uses none gets an empty one.
fn unpack_archive(
    entry: &Entry<'_>,
    making: &Making<'_>,
    path: &Path,
    contents: &mut BoxContents,
) -> Result<(), SourceError> {
    let staging = making.staging;
    let create = |name: &str| {
        let path = staging.path().join(name);
        HashedFile::create(&path).map_err(IoError::on("create", &path))
    };
    let archive = input::open(path).map_err(IoError::on("read", path))?;
    let mut kernel = create(&contents.kernel.name)?;
    let uses_initrd = entry.variant.use_initrd;
    let mut initrd = uses_initrd
        .then(|| create(&contents.initrd.name))
        .transpose()?;
    let out = initrd.as_mut().map(|file| Output::new(file, LARGEST));
    Parser::new(making.interrupt.clone())
        .boot_archive(&archive, Output::new(&mut kernel, LARGEST), out)
        .map_err(|source| SourceError::Parse {
            context: format!(
                "the archive {} cannot be used, though it is what is published",
                path.display()
            ),
            source,
        })?;
    let adopt = |name: &str, file: HashedFile| {
        let (size, sha256) = file.finish();
        staging.adopt(name, size, sha256)
    };
    contents.kernel = adopt(&contents.kernel.name, kernel)?;
    contents.initrd = match initrd {
        Some(file) => adopt(&contents.initrd.name, file)?,
        None => write_empty_initrd(staging, &contents.initrd.name)?,
    };
    Ok(())
}
