//! Read-only disk images.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vm_memory::bitmap::BitmapSlice;

use super::error::{ImageError, with_context};
use super::file_io::read_at;
use super::lock;
use super::mapping::Mapping;
use super::overlay::changes::{Changes, KeptChanges};
use super::qcow2::{MAGIC, Qcow2};
use crate::guest_io::Cursor;
use crate::threads::Threads;

/// A read-only disk image: raw or qcow2.
#[derive(Debug)]
pub struct Image {
    file: Arc<File>,
    /// Its name in errors.
    path: PathBuf,
    format: Format,
    /// Changes that lie over it, the lowest first.
    changes: Vec<Changes>,
    /// Without the changes, in bytes.
    own_len: u64,
    /// Of the disk, in bytes.
    len: u64,
    /// Something in it had to be unpacked.
    packed: Arc<AtomicBool>,
}

/// Bytes of one request of which the following ones are looked at.
const LOOKED_AT: u64 = 1 << 20;
/// Clusters of a request after which the next ones of it are put on the list.
const LISTED: u64 = 8;

#[derive(Debug)]
enum Format {
    Raw,
    Qcow2(Qcow2),
}

impl Image {
    /// Opens the image at `path`; its first bytes say what it is. Many may read an image at
    /// once; nothing can write it meanwhile.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or needs what is not supported (backing files,
    /// encryption, external data, extended entries).
    pub fn open(path: &Path) -> Result<Image, ImageError> {
        Image::named(File::open(path)?, path.to_owned())
    }

    /// The image in `file`, which errors call `name`.
    ///
    /// # Errors
    /// See [`Image::open`].
    pub fn named(file: File, name: PathBuf) -> Result<Image, ImageError> {
        Ok(Image {
            path: name,
            ..Image::new(file)?
        })
    }

    /// Opens the image at `path`, which shall be qcow2: one that has lost its first bytes is not
    /// taken for a raw disk.
    ///
    /// # Errors
    /// See [`Image::open`].
    pub fn open_qcow2(path: &Path) -> Result<Image, ImageError> {
        let image = Image::open(path)?;
        match image.format {
            Format::Qcow2(_) => Ok(image),
            Format::Raw => Err(ImageError::NotQcow2),
        }
    }

    /// The image in `file`.
    ///
    /// # Errors
    /// See [`Image::open`].
    pub fn new(file: File) -> Result<Image, ImageError> {
        lock::for_reading(&file)?;
        let mut magic = [0; 4];
        let is_qcow2 = file.read_exact_at(&mut magic, 0).is_ok() && magic == MAGIC;
        if is_qcow2 {
            let qcow2 = Qcow2::open(&file)?;
            let len = qcow2.len();
            return Ok(Image {
                file: Arc::new(file),
                path: PathBuf::from("of the box"),
                format: Format::Qcow2(qcow2),
                changes: Vec::new(),
                own_len: len,
                len,
                packed: Arc::default(),
            });
        }
        let len = file.metadata()?.len();
        Ok(Image {
            file: Arc::new(file),
            path: PathBuf::from("of the box"),
            format: Format::Raw,
            changes: Vec::new(),
            own_len: len,
            len,
            packed: Arc::default(),
        })
    }

    /// The image with changes over it, and over those that it has already, that
    /// [`Overlay::keep`](super::Overlay::keep) left. Whether they were made over this image is for the
    /// caller to know.
    ///
    /// # Errors
    /// If they cannot be read or contradict themselves.
    pub fn with_changes(mut self, kept: KeptChanges) -> io::Result<Image> {
        self.add(Changes::load(kept)?);
        Ok(self)
    }

    /// Puts changes over all that is there.
    pub(super) fn add(&mut self, changes: Changes) {
        self.len = self.len.max(changes.len);
        self.changes.push(changes);
    }

    /// Length of the disk in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The file that the image is in.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The file as long as something has it open.
    #[cfg(test)]
    pub(super) fn open_file(&self) -> std::sync::Weak<File> {
        Arc::downgrade(&self.file)
    }

    /// Whether it is qcow2; else it is raw.
    pub fn is_qcow2(&self) -> bool {
        matches!(self.format, Format::Qcow2(_))
    }

    /// The most bytes that one byte of the file can stand for.
    pub(super) fn largest_ratio(&self) -> u64 {
        match &self.format {
            Format::Raw => 1,
            Format::Qcow2(qcow2) => qcow2.largest_ratio(),
        }
    }

    /// Whether the disk has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Finds the data at `offset`: where they are, and for how many bytes, at most `len`, that holds.
    pub(super) fn map(&self, offset: u64, len: u64) -> io::Result<(Mapping, u64)> {
        if offset >= self.len {
            return Ok((Mapping::Zero, len));
        }
        let mut len = len.min(self.len - offset);
        for (layer, changes) in self.changes.iter().enumerate().rev() {
            let (changed, count) = changes.run(offset, len);
            if changed {
                return Ok((Mapping::Changes { layer, at: offset }, count));
            }
            len = count;
        }
        // The image itself may be shorter than what was written over it.
        if offset >= self.own_len {
            return Ok((Mapping::Zero, len));
        }
        len = len.min(self.own_len - offset);
        match &self.format {
            Format::Raw => Ok((Mapping::File(offset), len)),
            Format::Qcow2(qcow2) => qcow2.map(&self.file, offset, len),
        }
    }

    /// Fills the next `len` bytes of `buffers` from `offset` on. Behind the end are zeros.
    pub(super) fn read<B: BitmapSlice>(
        &self,
        offset: u64,
        len: u64,
        buffers: &mut Cursor<'_, B>,
    ) -> io::Result<()> {
        self.with_context(self.fill(offset, len, buffers))
    }

    fn with_context<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            with_context(
                format_args!("the disk image {}", self.path.display()),
                &error,
            )
        })
    }

    fn fill<B: BitmapSlice>(
        &self,
        offset: u64,
        len: u64,
        buffers: &mut Cursor<'_, B>,
    ) -> io::Result<()> {
        let mut done = 0;
        let mut unpacked = 0_u64;
        while done < len {
            let (mapping, count) = self.map(offset + done, len - done)?;
            match mapping {
                Mapping::File(at) => buffers.fill_from(&self.file, at, count)?,
                Mapping::Changes { layer, at } => {
                    buffers.fill_from(self.changed(layer)?, at, count)?;
                }
                Mapping::Zero => buffers.zero(count)?,
                Mapping::Compressed { entry, within } => {
                    if unpacked.is_multiple_of(LISTED) {
                        self.unpack_rest(offset + done + count, len - done - count);
                    }
                    unpacked += 1;
                    let cluster = self.unpacked(entry)?;
                    let start = within as usize;
                    buffers.fill(&cluster[start..start + count as usize])?;
                }
            }
            done += count;
        }
        if unpacked > 0
            && let Format::Qcow2(qcow2) = &self.format
            && qcow2.has_help()
        {
            qcow2.has_read(&self.file, offset..offset + len);
        }
        Ok(())
    }

    /// Lets the disk have threads that help, where something of it must be unpacked.
    pub(super) fn allow_help(&self, threads: &Threads) {
        if let Format::Qcow2(qcow2) = &self.format {
            qcow2.allow_help(threads.clone(), Arc::clone(&self.file));
        }
    }

    /// Set once something in it had to be unpacked.
    pub(super) fn packed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.packed)
    }

    /// Whether it is of use to say what will be read soon.
    pub(super) fn reads_ahead(&self) -> bool {
        self.packed.load(Ordering::Relaxed)
            && matches!(&self.format, Format::Qcow2(qcow2) if qcow2.has_help())
    }

    /// Says that `len` bytes from `offset` on will be read soon. False if no more shall be said now.
    pub(super) fn will_read(&self, offset: u64, len: u64) -> bool {
        match &self.format {
            Format::Qcow2(qcow2) if self.reads_ahead() => {
                let end = offset.saturating_add(len.min(LOOKED_AT));
                qcow2.unpack_ahead(&self.file, offset..end)
            }
            _ => false,
        }
    }

    /// A cluster at the start of a request is read here; the others of it may be by other threads.
    fn unpack_rest(&self, offset: u64, len: u64) {
        if !self.packed.load(Ordering::Relaxed) {
            self.packed.store(true, Ordering::Relaxed);
        }
        if len > 0 {
            self.will_read(offset, len);
        }
    }

    /// Fills `bytes`, memory of this process, from `offset` on.
    pub fn read_bytes(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.with_context(self.fill_bytes(offset, bytes))
    }

    fn fill_bytes(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let (mapping, count) = self.map(offset + done as u64, (bytes.len() - done) as u64)?;
            let part = &mut bytes[done..done + count as usize];
            match mapping {
                Mapping::File(at) => read_at(&self.file, part, at)?,
                Mapping::Changes { layer, at } => read_at(self.changed(layer)?, part, at)?,
                Mapping::Zero => part.fill(0),
                Mapping::Compressed { entry, within } => {
                    let start = within as usize;
                    part.copy_from_slice(&self.unpacked(entry)?[start..start + part.len()]);
                }
            }
            done += count as usize;
        }
        Ok(())
    }

    fn changed(&self, layer: usize) -> io::Result<&File> {
        let changes = self.changes.get(layer).map(|changes| &changes.file);
        changes.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    fn unpacked(&self, entry: u64) -> io::Result<std::sync::Arc<[u8]>> {
        match &self.format {
            Format::Qcow2(qcow2) => qcow2.unpacked(&self.file, entry),
            Format::Raw => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}
