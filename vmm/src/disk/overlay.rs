//! A private, throw-away copy-on-write overlay over a read-only image.

mod bitmap;
pub(super) mod changes;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use vm_memory::bitmap::BitmapSlice;

use self::bitmap::Bitmap;
use self::changes::{BLOCK, Changes, LONGEST};
use super::error::with_context;
use super::file_io::punch_or_write;
use super::image::Image;
use super::storage::{Disk, SECTOR};
use super::tmpfile;
use crate::guest_io::{Buffers, Cursor};
use crate::threads::Threads;

/// A disk that a guest may write to. What it writes is lost when this value is dropped.
#[derive(Debug)]
pub struct Overlay {
    /// Held exclusively while a checkpoint is taken, which waits for all writes under way; shared by all
    /// reads and writes.
    layers: RwLock<Layers>,
    /// The folder of the topmost file, for errors.
    scratch: PathBuf,
    /// Held exclusively while a block is completed with the image's data, so that no other
    /// write to it is undone; shared by all others. Guests seldom write less than a block.
    completing: RwLock<()>,
    len: u64,
    /// Something of the image had to be unpacked.
    packed: Arc<AtomicBool>,
}

/// What an overlay consists of.
#[derive(Debug)]
struct Layers {
    /// What is below: the image with what lies over it.
    image: Image,
    /// As long as the disk. Has the blocks whose bit is set, at their offsets on the disk.
    file: File,
    written: Bitmap,
}

impl Overlay {
    /// Creates an overlay over `image` in a new file without a name in the folder `scratch`. `len` is
    /// the length of the disk in bytes if it shall be longer than the image; the rest is zeros.
    ///
    /// # Errors
    /// If the file cannot be made, or the length is not a multiple of [`SECTOR`] or more than
    /// 16 TiB.
    pub fn new(image: Image, len: Option<u64>, scratch: &Path) -> io::Result<Overlay> {
        let file = tmpfile::create(scratch)?;
        Overlay::over(image, len, file, scratch.to_owned())
    }

    /// Creates an overlay over `image` in the empty `file`, which lies in the folder `scratch`.
    pub(super) fn over(
        image: Image,
        len: Option<u64>,
        file: File,
        scratch: PathBuf,
    ) -> io::Result<Overlay> {
        // An image of this length is nonsense, but an image may say anything.
        let shortest = image.len().min(u64::MAX - SECTOR).next_multiple_of(SECTOR);
        let len = len.unwrap_or(0).max(shortest);
        if !len.is_multiple_of(SECTOR) || len > LONGEST {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!("a disk of {len} bytes: must be a multiple of 512, and at most 16 TiB"),
            ));
        }
        file.set_len(len)?;
        Ok(Overlay {
            packed: image.packed(),
            layers: RwLock::new(Layers {
                image,
                file,
                written: Bitmap::new(len.div_ceil(BLOCK)),
            }),
            scratch,
            completing: RwLock::new(()),
            len,
        })
    }

    /// Length of the disk in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether the disk has no sectors.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the overlay takes on the host now.
    ///
    /// # Errors
    /// If the host does not tell.
    pub fn allocated(&self) -> io::Result<u64> {
        use std::os::unix::fs::MetadataExt;
        Ok(self.layers().file.metadata()?.blocks() * 512)
    }

    /// Keeps what was written, in files in `folder`, which must be on the overlay's file system.
    /// Returns the bytes that it takes on the host.
    ///
    /// # Errors
    /// If the host does not allow it. There may be some of the files in the folder then.
    pub fn keep(&self, folder: &Path) -> io::Result<u64> {
        let file = self.layers().file.try_clone()?;
        changes::keep(&file, folder, |map| self.write_map(map))
    }

    /// Takes a checkpoint: what has been written so far stays as it is, and what is written from now on goes
    /// to `file`, which has nothing in it. Which blocks the file of the changes has up to here is written to `map`.
    ///
    /// # Errors
    /// If the host does not allow it. Nothing is different then.
    pub fn checkpoint(&self, file: File, map: File) -> io::Result<()> {
        // A confined process may not change the length of files.
        if file.metadata()?.len() != self.len {
            file.set_len(self.len)?;
        }
        let mut layers = self.layers.write().unwrap_or_else(PoisonError::into_inner);
        let mut map = BufWriter::new(map);
        layers.written.save(&mut map)?;
        map.into_inner()?;
        let written = Bitmap::new(self.len.div_ceil(BLOCK));
        let changes = Changes {
            file: std::mem::replace(&mut layers.file, file),
            written: std::mem::replace(&mut layers.written, written),
            len: self.len,
        };
        layers.image.add(changes);
        Ok(())
    }

    /// Writes down which blocks have been written, for [`keep_changes`](super::keep_changes) of
    /// another process.
    ///
    /// # Errors
    /// If the host does not allow it.
    pub fn write_map(&self, map: File) -> io::Result<()> {
        let mut map = BufWriter::new(map);
        self.layers().written.save(&mut map)?;
        map.into_inner()?.sync_all()
    }

    /// Fills `buffers` from the disk at `offset`.
    ///
    /// # Errors
    /// If the range is not in the disk, the image is damaged, or the host cannot read.
    pub fn read_at<B: BitmapSlice>(
        &self,
        offset: u64,
        buffers: &mut Cursor<'_, B>,
    ) -> io::Result<()> {
        let end = self.end(offset, buffers.remaining())?;
        let mut at = offset;
        let layers = self.layers();
        while at < end {
            let (written, run_end) = layers.run(at, end);
            if written {
                self.with_context(buffers.fill_from(&layers.file, at, run_end - at))?;
            } else {
                layers.image.read(at, run_end - at, buffers)?;
            }
            at = run_end;
        }
        Ok(())
    }

    /// Writes `buffers` to the disk at `offset`.
    ///
    /// # Errors
    /// If the range is not in the disk, or the host cannot write ([`ErrorKind::StorageFull`]).
    pub fn write_at<B: BitmapSlice>(
        &self,
        offset: u64,
        buffers: &mut Cursor<'_, B>,
    ) -> io::Result<()> {
        let end = self.end(offset, buffers.remaining())?;
        let mut at = offset;
        let layers = self.layers();
        while at < end {
            let block = at / BLOCK;
            let block_end = ((block + 1) * BLOCK).min(self.len);
            if !at.is_multiple_of(BLOCK) || end < block_end {
                let part_end = end.min(block_end);
                self.write_part(&layers, block, at, part_end - at, buffers)?;
                at = part_end;
            } else {
                // Whole blocks; the disk's last one may be short.
                let whole_end = if end == self.len {
                    end
                } else {
                    end / BLOCK * BLOCK
                };
                let _shared = self.shared();
                buffers.drain_to(&layers.file, at, whole_end - at)?;
                layers.written.set(block, whole_end.div_ceil(BLOCK));
                at = whole_end;
            }
        }
        Ok(())
    }

    /// Writes a part of one block, which must then have the rest of its data.
    fn write_part<B: BitmapSlice>(
        &self,
        layers: &Layers,
        block: u64,
        offset: u64,
        len: u64,
        buffers: &mut Cursor<'_, B>,
    ) -> io::Result<()> {
        {
            let _shared = self.shared();
            if layers.written.get(block) {
                return buffers.drain_to(&layers.file, offset, len);
            }
        }
        let _exclusive = self
            .completing
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if layers.written.get(block) {
            return buffers.drain_to(&layers.file, offset, len);
        }
        let mut data = [0; BLOCK as usize];
        let start = block * BLOCK;
        let data = &mut data[..BLOCK.min(self.len - start) as usize];
        layers.image.read_bytes(start, data)?;
        let within = (offset - start) as usize;
        buffers.take(&mut data[within..within + len as usize])?;
        layers.file.write_all_at(data, start)?;
        layers.written.set(block, block + 1);
        Ok(())
    }

    /// Makes a range read as zeros, and gives its space back to the host.
    ///
    /// # Errors
    /// If the range is not in the disk, or the host cannot write.
    pub fn zero_range(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = self.end(offset, len)?;
        let first = offset.next_multiple_of(BLOCK).min(end);
        let last = if end == self.len {
            end
        } else {
            (end / BLOCK * BLOCK).max(first)
        };
        let layers = self.layers();
        self.zero_part(&layers, offset, first)?;
        if first < last {
            let _shared = self.shared();
            punch_or_write(&layers.file, first, last - first)?;
            layers.written.set(first / BLOCK, last.div_ceil(BLOCK));
        }
        self.zero_part(&layers, last, end)
    }

    /// Gives the space of a range back to the host. What it reads as afterwards is
    /// undefined (virtio 1.2, section 5.2.6); here it is zeros, or at the edges the old data.
    ///
    /// # Errors
    /// See [`Overlay::zero_range`].
    pub fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        let end = self.end(offset, len)?;
        let first = offset.next_multiple_of(BLOCK);
        let last = end / BLOCK * BLOCK;
        if first < last {
            let layers = self.layers();
            let _shared = self.shared();
            punch_or_write(&layers.file, first, last - first)?;
            layers.written.set(first / BLOCK, last / BLOCK);
        }
        Ok(())
    }

    fn zero_part(&self, layers: &Layers, from: u64, to: u64) -> io::Result<()> {
        if from == to {
            return Ok(());
        }
        let mut zeros = [0_u8; BLOCK as usize];
        let parts = [vm_memory::VolatileSlice::from(
            &mut zeros[..(to - from) as usize],
        )];
        self.write_part(
            layers,
            from / BLOCK,
            from,
            to - from,
            &mut Cursor::new(&parts),
        )
    }

    fn layers(&self) -> RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.completing
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The end of a range of the disk.
    fn end(&self, offset: u64, len: u64) -> io::Result<u64> {
        offset
            .checked_add(len)
            .filter(|end| *end <= self.len)
            .ok_or_else(|| ErrorKind::InvalidInput.into())
    }

    /// Names the overlay's file in an error. Errors of the image name the image already.
    fn with_context<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| match error.kind() {
            ErrorKind::InvalidInput => error,
            _ => with_context(
                format_args!("the disk's changes in {}", self.scratch.display()),
                &error,
            ),
        })
    }
}

impl Layers {
    /// Whether the block at `at` is in the topmost file, and up to where, at most `end`, this holds.
    fn run(&self, at: u64, end: u64) -> (bool, u64) {
        let first = at / BLOCK;
        let (written, count) = self.written.run(first, end.div_ceil(BLOCK));
        (written, ((first + count) * BLOCK).min(end))
    }
}

impl Disk for Overlay {
    fn size(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, target: &Buffers<'_>) -> io::Result<()> {
        self.read_at(offset, &mut target.cursor())
    }

    fn write(&self, offset: u64, source: &Buffers<'_>) -> io::Result<()> {
        self.with_context(self.write_at(offset, &mut source.cursor()))
    }

    /// Nothing of a throw-away disk needs to survive.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn zero(&self, offset: u64, len: u64, discard: bool) -> io::Result<()> {
        self.with_context(if discard {
            self.discard(offset, len)
        } else {
            self.zero_range(offset, len)
        })
    }

    fn serial(&self) -> String {
        String::from("boxbuild")
    }

    fn allow_help(&self, threads: &Threads) {
        self.layers().image.allow_help(threads);
    }

    fn reads_ahead(&self) -> bool {
        self.packed.load(Ordering::Relaxed) && self.layers().image.reads_ahead()
    }

    /// What has been written since is unpacked in vain, which does no harm.
    fn will_read(&self, offset: u64, len: u64) -> bool {
        self.layers().image.will_read(offset, len)
    }
}

#[cfg(test)]
mod file_system_tests;
#[cfg(test)]
mod tests;
