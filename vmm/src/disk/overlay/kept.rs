//! An overlay that outlives its machine, to be looked at.

use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use super::bitmap::Bitmap;
use super::{BLOCK, LONGEST, Overlay};
use crate::disk::unnamed;

/// The blocks, at their offsets on the disk.
const BLOCKS: &str = "changes";
/// Which blocks these are.
const MAP: &str = "changes.map";

impl Overlay {
    /// Gives what was written names in `folder`, which must be on the overlay's file system.
    /// Returns the bytes that it takes on the host.
    ///
    /// # Errors
    /// If the host does not allow it. There may be some of the files in the folder then.
    pub fn keep(&self, folder: &Path) -> io::Result<u64> {
        let mut map = BufWriter::new(File::create_new(folder.join(MAP))?);
        self.written.save(&mut map)?;
        map.into_inner()?.sync_all()?;
        self.file.sync_all()?;
        unnamed::link(&self.file, &folder.join(BLOCKS))?;
        self.allocated()
    }
}

/// What an overlay had in it: the blocks over an image that [`Overlay::keep`] left in a folder.
#[derive(Debug)]
pub(in crate::disk) struct Changes {
    pub(in crate::disk) file: File,
    written: Bitmap,
    pub(in crate::disk) len: u64,
}

impl Changes {
    pub(in crate::disk) fn open(folder: &Path) -> io::Result<Changes> {
        let file = File::open(folder.join(BLOCKS))?;
        let len = file.metadata()?.len();
        if len > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut map = BufReader::new(File::open(folder.join(MAP))?);
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
