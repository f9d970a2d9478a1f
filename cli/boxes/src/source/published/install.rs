//! What was fetched becomes a box.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use boxbuild_vmm::disk::Image;

use super::{PullError, Puller, destination, io_error};
use crate::fetch::{Destination, Fetched, Unpacked};
use crate::store::{BoxFile, HashedFile, InstalledBox, Part, Staging};

/// Names in the staging folder before the box's own are given.
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";

/// Where the archive with the kernel is unpacked to.
pub(super) fn kernel_destination(staging: &Staging, initrd: bool) -> Destination {
    let path = |name| staging.path().join(name);
    destination(path(KERNEL), initrd.then(|| path(INITRD)))
}

impl Puller<'_> {
    /// Publishes what was fetched to `dir` and unpacked to `staging`.
    pub(super) fn install(
        &mut self,
        dir: &Path,
        staging: Staging,
        fetched: &[Fetched; 2],
    ) -> Result<InstalledBox, PullError> {
        let [kernel_file, disk_file] = self.wanted.files();
        let [kernel, disk] = fetched;
        let parts = [self.part(kernel_file, kernel), self.part(disk_file, disk)];
        let path = dir.join(format!("{disk_file}.part"));
        let unpacked = kernel.unpacked.clone();
        self.publish(staging, unpacked.as_ref(), &path, parts, true)
    }

    /// Makes the box of the disk in the file `disk` and what was unpacked to `staging`. A
    /// compressed disk is unpacked if `unpack_disk`.
    pub(super) fn publish(
        &mut self,
        staging: Staging,
        unpacked: Option<&Unpacked>,
        disk: &Path,
        parts: [Part; 2],
        unpack_disk: bool,
    ) -> Result<InstalledBox, PullError> {
        let arch = self.wanted.variant.arch;
        let image = Image::open_qcow2(disk).map_err(|source| PullError::Disk {
            name: self.name().to_owned(),
            source,
        })?;
        let [kernel_part, disk_part] = parts;
        let mut info = self.wanted.info();
        info.disk_size = image.len();
        info.created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_secs());
        let compressed = unpack_disk && image.is_compressed().map_err(io_error("read", disk))?;
        info.disk = if compressed {
            self.progress.begin("unpack the disk");
            write_plain(&image, &staging, &info.disk.name)?
        } else {
            let to = staging.path().join(&info.disk.name);
            // A link, so that what was fetched is there until the box is. Not every file system
            // has them.
            fs::hard_link(disk, &to)
                .or_else(|_| fs::rename(disk, &to))
                .map_err(io_error("create", &to))?;
            staging.adopt(&info.disk.name, disk_part.size, disk_part.sha256.clone())?
        };
        for (from, file, member) in [
            (KERNEL, &mut info.kernel, unpacked.map(|all| &all.kernel)),
            (
                INITRD,
                &mut info.initrd,
                unpacked.and_then(|all| all.initrd.as_ref()),
            ),
        ] {
            let (from, to) = (staging.path().join(from), staging.path().join(&file.name));
            *file = match member {
                Some(member) => {
                    fs::rename(&from, &to).map_err(io_error("create", &to))?;
                    staging.adopt(&file.name, member.size, member.sha256.clone())?
                }
                None => {
                    fs::write(&to, empty_initrd()).map_err(io_error("write", &to))?;
                    staging.describe(&file.name)?
                }
            };
        }
        debug_assert_eq!(info.arch, arch);
        info.published = Some(self.published(kernel_part, disk_part));
        Ok(staging.publish(self.store, info, true)?)
    }
}

/// Writes the disk without compression.
fn write_plain(image: &Image, staging: &Staging, name: &str) -> Result<BoxFile, PullError> {
    let path = staging.path().join(name);
    let mut out = HashedFile::create(&path).map_err(io_error("create", &path))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, &mut out);
    image
        .write_plain(&mut buffered)
        .and_then(|()| buffered.flush())
        .map_err(io_error("unpack the disk to", &path))?;
    drop(buffered);
    let (size, sha256) = out.finish();
    Ok(staging.adopt(name, size, sha256)?)
}

/// An initial ramdisk with nothing in it, for boxes that mount their root without one: the trailer
/// of a cpio archive (kernel, buffer-format.rst).
pub(crate) fn empty_initrd() -> Vec<u8> {
    const TRAILER: &[u8] = b"TRAILER!!!\0";
    let mut bytes = b"070701".to_vec();
    for field in 0..13 {
        // The links to it, and the length of its name; all others are 0.
        let value = match field {
            4 => 1,
            11 => TRAILER.len(),
            _ => 0,
        };
        bytes.extend(format!("{value:08x}").bytes());
    }
    bytes.extend(TRAILER);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initrd_with_nothing_in_it() {
        assert_eq!(empty_initrd().len(), 124);
        assert!(empty_initrd().starts_with(b"07070100000000"));
    }
}
