//! The configuration of a disk: open files.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{ImageError, OpenError};
use super::image::Image;
use super::in_place::in_place;
use super::overlay::Overlay;
use super::overlay::changes::KeptChanges;
use super::raw::RawDisk;
use super::storage::Disk;

/// An open file with its name for errors.
#[derive(Debug)]
pub struct NamedFile {
    /// Open as its use requires.
    pub file: File,
    /// Its path, or that of the folder it has no name in. It is never opened.
    pub name: PathBuf,
}

/// A disk as open files.
#[derive(Debug)]
pub enum DiskConfig {
    /// A raw file; a rest that is no whole sector is left out.
    Raw {
        /// Readable and, unless `read_only`, writable.
        file: File,
        /// Whether the guest's writes are refused.
        read_only: bool,
    },
    /// An image, raw or qcow2, that the guest's writes go into.
    InPlace {
        /// Readable and writable.
        image: NamedFile,
        /// Length of the disk in bytes from now on, if it shall be longer than the image.
        len: Option<u64>,
    },
    /// An image, raw or qcow2, that is only read.
    Overlay(OverlayConfig),
}

/// What an image must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageFormat {
    /// What its first bytes say.
    Any,
    /// Qcow2: an image that has lost its first bytes is not taken for a raw disk.
    Qcow2,
}

/// An image that is only read, and what takes the guest's writes.
#[derive(Debug)]
pub struct OverlayConfig {
    /// The image, readable.
    pub image: NamedFile,
    /// What it must be.
    pub format: ImageFormat,
    /// What earlier machines wrote over the image, the lowest first ([`Overlay::keep`]).
    pub kept: Vec<KeptChanges>,
    /// Length of the disk in bytes, if it shall be longer than the image.
    pub len: Option<u64>,
    /// An empty file for the guest's writes ([`tmpfile`](super::tmpfile)).
    pub changes: NamedFile,
}

/// A disk at work.
#[derive(Debug)]
pub(crate) struct OpenDisk {
    pub(crate) disk: Box<dyn Disk>,
    /// What takes the writes, if that is not the image.
    pub(crate) overlay: Option<Arc<Overlay>>,
}

impl DiskConfig {
    /// Puts the disk together.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged or in use, or does not fit the others.
    pub(crate) fn open(self) -> Result<OpenDisk, OpenError> {
        let disk: Box<dyn Disk> = match self {
            DiskConfig::Raw { file, read_only } => {
                Box::new(RawDisk::new(file, read_only).map_err(OpenError::Raw)?)
            }
            DiskConfig::InPlace { image, len } => in_place(image.file, image.name, len)?,
            DiskConfig::Overlay(config) => {
                let overlay = Arc::new(config.open()?);
                return Ok(OpenDisk {
                    disk: Box::new(Arc::clone(&overlay)),
                    overlay: Some(overlay),
                });
            }
        };
        Ok(OpenDisk {
            disk,
            overlay: None,
        })
    }
}

impl OverlayConfig {
    fn open(self) -> Result<Overlay, OpenError> {
        let mut image = Image::named(self.image.file, self.image.name)?;
        if self.format == ImageFormat::Qcow2 && !image.is_qcow2() {
            return Err(ImageError::NotQcow2.into());
        }
        for kept in self.kept {
            image = image.with_changes(kept).map_err(OpenError::Kept)?;
        }
        let NamedFile { file, name } = self.changes;
        Overlay::over(image, self.len, file, name).map_err(OpenError::Changes)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use vm_memory::VolatileSlice;

    use super::*;
    use crate::disk::tmpfile;
    use crate::guest_io::Cursor;

    fn overlay(image: &Path, format: ImageFormat, kept: Vec<KeptChanges>) -> DiskConfig {
        let folder = image.parent().unwrap();
        DiskConfig::Overlay(OverlayConfig {
            image: NamedFile {
                file: File::open(image).unwrap(),
                name: image.to_owned(),
            },
            format,
            kept,
            len: Some(8192),
            changes: NamedFile {
                file: tmpfile::create(folder).unwrap(),
                name: folder.to_owned(),
            },
        })
    }

    fn bytes(overlay: &Overlay, offset: u64) -> [u8; 4] {
        let mut bytes = [0xff; 4];
        let slices = [VolatileSlice::from(&mut bytes[..])];
        overlay.read_at(offset, &mut Cursor::new(&slices)).unwrap();
        bytes
    }

    #[test]
    fn an_overlay_is_put_together_from_open_files() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::write(&image, [7; 4096]).unwrap();
        let open = overlay(&image, ImageFormat::Any, Vec::new())
            .open()
            .unwrap();
        let first = open.overlay.unwrap();
        assert_eq!(open.disk.size(), 8192);
        let mut data = [1, 2, 3, 4];
        let slices = [VolatileSlice::from(&mut data[..])];
        first.write_at(4096, &mut Cursor::new(&slices)).unwrap();
        let kept = folder.path().join("kept");
        std::fs::create_dir(&kept).unwrap();
        first.keep(&kept).unwrap();

        let kept = KeptChanges::open(&kept).unwrap();
        let open = overlay(&image, ImageFormat::Any, vec![kept])
            .open()
            .unwrap();
        let second = open.overlay.unwrap();
        assert_eq!(bytes(&second, 0), [7; 4]);
        assert_eq!(bytes(&second, 4096), [1, 2, 3, 4]);
    }

    #[test]
    fn an_image_that_has_lost_its_first_bytes_is_not_a_raw_disk() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::write(&image, [7; 4096]).unwrap();
        let refused = overlay(&image, ImageFormat::Qcow2, Vec::new()).open();
        assert!(matches!(
            refused,
            Err(OpenError::Image(ImageError::NotQcow2))
        ));
    }

    #[test]
    fn only_what_has_an_overlay_can_be_kept() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1024).unwrap();
        let raw = DiskConfig::Raw {
            file,
            read_only: true,
        };
        let open = raw.open().unwrap();
        assert!(open.disk.is_read_only() && open.overlay.is_none());
    }
}
