//! What an overlay had in it, kept in a folder to be looked at.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::bitmap::Bitmap;
use crate::disk::tmpfile;

/// File with the blocks, at their offsets on the disk.
pub(super) const BLOCKS: &str = "changes";
/// File that says which blocks these are.
pub(super) const MAP: &str = "changes.map";

/// The unit in which blocks go from the image to the overlay, in bytes: that of page caches and
/// of the file systems in guests, whose writes therefore never need the old data.
pub(super) const BLOCK: u64 = 4096;
/// Longest disk in bytes: the longest file of ext4 with 4 KiB blocks.
pub(super) const LONGEST: u64 = 16 << 40;

/// What an overlay had in it: the blocks over an image that [`Overlay::keep`](super::Overlay::keep) left in a folder.
#[derive(Debug)]
pub(in crate::disk) struct Changes {
    pub(in crate::disk) file: File,
    pub(super) written: Bitmap,
    pub(in crate::disk) len: u64,
}

/// The files of [`Overlay::keep`](super::Overlay::keep), open.
#[derive(Debug)]
pub struct KeptChanges {
    blocks: File,
    map: File,
}

/// Keeps the file `blocks` of an overlay in `folder`, which must be on its file system, with the
/// map that `write_map` writes. Returns the bytes that it takes on the host.
///
/// # Errors
/// If the host does not allow it. There may be some of the files in the folder then.
pub fn keep(
    blocks: &File,
    folder: &Path,
    write_map: impl FnOnce(File) -> io::Result<()>,
) -> io::Result<u64> {
    write_map(File::create_new(folder.join(MAP))?)?;
    blocks.sync_all()?;
    tmpfile::link(blocks, &folder.join(BLOCKS))?;
    Ok(blocks.metadata()?.blocks() * 512)
}

impl KeptChanges {
    /// Returns what two open files have, the blocks and the map.
    pub fn from_files([blocks, map]: [File; 2]) -> KeptChanges {
        KeptChanges { blocks, map }
    }

    /// Returns the open files: the blocks and the map.
    pub fn into_files(self) -> [File; 2] {
        [self.blocks, self.map]
    }

    /// Opens what was left in `folder`.
    ///
    /// # Errors
    /// If a file is not there or cannot be read.
    pub fn open(folder: &Path) -> io::Result<KeptChanges> {
        Ok(KeptChanges {
            blocks: File::open(folder.join(BLOCKS))?,
            map: File::open(folder.join(MAP))?,
        })
    }
}

impl Changes {
    pub(in crate::disk) fn load(kept: KeptChanges) -> io::Result<Changes> {
        let file = kept.blocks;
        let len = file.metadata()?.len();
        if len > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut map = BufReader::new(kept.map);
        Ok(Changes {
            written: Bitmap::load(len.div_ceil(BLOCK), &mut map)?,
            file,
            len,
        })
    }

    /// Whether what is at `offset` is here, and for how many bytes, at most `len`, this holds.
    pub(in crate::disk) fn run(&self, offset: u64, len: u64) -> (bool, u64) {
        if offset >= self.len {
            return (false, len);
        }
        let end = (offset + len).min(self.len);
        let first = offset / BLOCK;
        let (written, count) = self.written.run(first, end.div_ceil(BLOCK));
        (written, ((first + count) * BLOCK).min(end) - offset)
    }
}
