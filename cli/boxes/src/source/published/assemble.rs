//! The contents of a box, of its published files.

use std::fs;
use std::path::Path;

use boxbuild_host::error::IoError;
use boxbuild_vmm::disk::Image;

use super::entry::Entry;
use crate::fetch::{BootFilePaths, BootFiles, FetchedFile, UnpackedFile};
use crate::source::box_source::Making;
use crate::source::contents::{BoxContents, write_empty_initrd, write_plain_disk};
use crate::source::error::SourceError;
use crate::store::{BoxFile, Staging};

/// Names of the unpacked files in the staging folder.
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";

/// How a disk becomes part of a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskForm {
    /// A compressed one is unpacked, another one linked.
    Plain,
    /// It is linked.
    AsIs,
}

/// Returns the paths in the staging folder that the archive with the kernel is unpacked to.
pub(super) fn boot_file_paths(entry: &Entry<'_>, staging: &Staging) -> BootFilePaths {
    let path = |name| staging.path().join(name);
    BootFilePaths {
        kernel: path(KERNEL),
        initrd: entry.variant.use_initrd.then(|| path(INITRD)),
    }
}

/// Puts a box together in the staging folder: of the disk in the file `disk`, and of what was
/// unpacked to [`boot_file_paths`]. `fetched` are the archive with the kernel and the disk, as
/// published.
pub(super) fn assemble(
    entry: &Entry<'_>,
    making: &mut Making<'_>,
    unpacked: Option<&BootFiles>,
    disk: &Path,
    fetched: &[FetchedFile; 2],
    form: DiskForm,
) -> Result<BoxContents, SourceError> {
    let staging = making.staging;
    let image = Image::open_qcow2(disk).map_err(|source| SourceError::Disk {
        context: format!(
            "the disk of the box '{}' cannot be used, though it is what is published",
            entry.name()
        ),
        source,
    })?;
    let mut contents = entry.contents();
    contents.disk_size = image.len();
    let unpack =
        form == DiskForm::Plain && image.is_compressed().map_err(IoError::on("read", disk))?;
    contents.disk = if unpack {
        making.reporter.begin("unpack the disk");
        write_plain_disk(&image, staging, &contents.disk.name, "unpack the disk to")?
    } else {
        let to = staging.path().join(&contents.disk.name);
        // A link keeps the fetched file until the box is published. Not every file system has them.
        fs::hard_link(disk, &to)
            .or_else(|_| fs::rename(disk, &to))
            .map_err(IoError::on("create", &to))?;
        let [_, published] = fetched;
        staging.adopt(
            &contents.disk.name,
            published.size,
            published.sha256.clone(),
        )?
    };
    let kernel = unpacked.map(|unpacked| &unpacked.kernel);
    let initrd = unpacked.and_then(|unpacked| unpacked.initrd.as_ref());
    contents.kernel = boot_file(staging, KERNEL, &contents.kernel.name, kernel)?;
    contents.initrd = boot_file(staging, INITRD, &contents.initrd.name, initrd)?;
    contents.published = Some(entry.record(fetched));
    Ok(contents)
}

/// Renames an unpacked file in the staging folder. One that was not unpacked becomes an empty initial
/// ramdisk.
fn boot_file(
    staging: &Staging,
    from: &str,
    name: &str,
    unpacked: Option<&UnpackedFile>,
) -> Result<BoxFile, SourceError> {
    let Some(unpacked) = unpacked else {
        return write_empty_initrd(staging, name);
    };
    let (from, to) = (staging.path().join(from), staging.path().join(name));
    fs::rename(&from, &to).map_err(IoError::on("create", &to))?;
    Ok(staging.adopt(name, unpacked.size, unpacked.sha256.clone())?)
}
