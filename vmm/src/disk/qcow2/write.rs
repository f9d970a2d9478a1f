//! Writing an image in place.
//!
//! Where a cluster has a place of its own, data go there directly, from all queues at once.
//! Where it has none, it gets one first: a place that reads as the cluster reads now. So a
//! crash at any instant leaves each sector as it was or as it was to become.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use vm_memory::bitmap::BitmapSlice;

use super::metadata::{Cluster, Metadata};
use crate::disk::error::{ImageError, with_context};
use crate::disk::file_io::punch_or_write;
use crate::disk::storage::Disk;
use crate::guest_io::{Buffers, Cursor};

/// An image that is written in place. The caller has locked it.
#[derive(Debug)]
pub(in crate::disk) struct Qcow2Disk {
    file: File,
    path: PathBuf,
    len: u64,
    /// Bytes of a cluster.
    cluster: u64,
    /// Held shared while data move, so that their place does not become another's.
    metadata: RwLock<Metadata>,
}

impl Qcow2Disk {
    /// The image in `file`, which errors call `path`; at least `len` bytes long from now on.
    pub(in crate::disk) fn open(
        file: File,
        path: PathBuf,
        len: Option<u64>,
    ) -> Result<Qcow2Disk, ImageError> {
        let mut metadata = Metadata::read(&file)?;
        if let Some(len) = len
            && len > metadata.len()
        {
            metadata.grow(len)?;
        }
        Ok(Qcow2Disk {
            file,
            path,
            // A rest that is no whole sector is left out.
            len: metadata.len() / crate::disk::SECTOR * crate::disk::SECTOR,
            cluster: metadata.cluster(),
            metadata: RwLock::new(metadata),
        })
    }

    fn shared(&self) -> RwLockReadGuard<'_, Metadata> {
        self.metadata.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn exclusive(&self) -> RwLockWriteGuard<'_, Metadata> {
        self.metadata
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The metadata, with the table for `cluster` in memory.
    fn with_table(&self, cluster: u64) -> io::Result<RwLockReadGuard<'_, Metadata>> {
        loop {
            let metadata = self.shared();
            if metadata.has_table(cluster) {
                return Ok(metadata);
            }
            drop(metadata);
            self.exclusive().load(&self.file, cluster)?;
        }
    }

    pub(super) fn read_at<B: BitmapSlice>(
        &self,
        offset: u64,
        buffers: &mut Cursor<'_, B>,
    ) -> io::Result<()> {
        let (mut at, end) = (offset, offset + buffers.remaining());
        while at < end {
            let metadata = self.with_table(at / self.cluster)?;
            let run = Run::at(&metadata, at, end)?;
            match run.cluster {
                Cluster::Own(place) | Cluster::Shared(place) => {
                    buffers.fill_from(&self.file, place + run.within, run.len)?;
                }
                Cluster::Unallocated | Cluster::Kept(_) => buffers.zero(run.len)?,
                Cluster::Compressed(entry) => {
                    let data = metadata.unpacker.unpacked(&self.file, entry)?;
                    let from = run.within as usize;
                    buffers.fill(&data[from..from + run.len as usize])?;
                }
            }
            at += run.len;
        }
        Ok(())
    }

    pub(super) fn write_at<B: BitmapSlice>(
        &self,
        offset: u64,
        buffers: &mut Cursor<'_, B>,
    ) -> io::Result<()> {
        let (mut at, end) = (offset, offset + buffers.remaining());
        while at < end {
            let metadata = self.with_table(at / self.cluster)?;
            metadata.check()?;
            let run = Run::at(&metadata, at, end)?;
            if let Cluster::Own(place) = run.cluster {
                buffers.drain_to(&self.file, place + run.within, run.len)?;
                at += run.len;
            } else {
                drop(metadata);
                self.own(at, end)?;
            }
        }
        Ok(())
    }

    /// Gives the first clusters of a range places of their own.
    fn own(&self, at: u64, end: u64) -> io::Result<()> {
        let cluster = self.cluster;
        let first = at / cluster;
        let mut metadata = self.exclusive();
        metadata.load(&self.file, first)?;
        metadata.own(&self.file, first, end.div_ceil(cluster))
    }

    fn zero_at(&self, offset: u64, len: u64, discard: bool) -> io::Result<()> {
        let cluster = self.cluster;
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let metadata = self.with_table(at / cluster)?;
            metadata.check()?;
            let run = Run::at(&metadata, at, end)?;
            match run.cluster {
                Cluster::Unallocated | Cluster::Kept(_) => {}
                Cluster::Own(place) => punch_or_write(&self.file, place + run.within, run.len)?,
                Cluster::Shared(_) | Cluster::Compressed(_) => {
                    drop(metadata);
                    let whole = run.len == cluster;
                    if whole && self.exclusive().forget(&self.file, at / cluster)? {
                        at += run.len;
                    } else if discard && !whole {
                        // Its contents do not matter: they may stay.
                        at += run.len;
                    } else {
                        self.own(at, end)?;
                    }
                    continue;
                }
            }
            at += run.len;
        }
        Ok(())
    }

    fn with_context<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            with_context(
                format_args!("the disk image {}", self.path.display()),
                &error,
            )
        })
    }
}

/// Bytes of the disk that are found the same way.
struct Run {
    /// Where the first cluster is.
    cluster: Cluster,
    /// Offset in it.
    within: u64,
    len: u64,
}

impl Run {
    /// What is at `at`, and how much up to `end` is in a row with it. Only tables in memory are
    /// looked at.
    fn at(metadata: &Metadata, at: u64, end: u64) -> io::Result<Run> {
        let size = metadata.cluster();
        let first = at / size;
        let cluster = metadata.find(first)?;
        let within = at % size;
        let mut len = size - within;
        if !matches!(cluster, Cluster::Compressed(_) | Cluster::Shared(_)) {
            let mut next = first + 1;
            while at + len < end && metadata.has_table(next) {
                let follows = match (cluster, metadata.find(next)?) {
                    (Cluster::Own(place), Cluster::Own(other)) => {
                        other == place + (next - first) * size
                    }
                    (Cluster::Unallocated, Cluster::Unallocated) => true,
                    _ => false,
                };
                if !follows {
                    break;
                }
                len += size;
                next += 1;
            }
        }
        Ok(Run {
            cluster,
            within,
            len: len.min(end - at),
        })
    }
}

impl Disk for Qcow2Disk {
    fn size(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, target: &Buffers<'_>) -> io::Result<()> {
        self.with_context(self.read_at(offset, &mut target.cursor()))
    }

    fn write(&self, offset: u64, source: &Buffers<'_>) -> io::Result<()> {
        self.with_context(self.write_at(offset, &mut source.cursor()))
    }

    fn flush(&self) -> io::Result<()> {
        let metadata = self.shared();
        self.with_context(metadata.check())?;
        let dirty = metadata.dirty();
        drop(metadata);
        // With changed tables this is most of the work, and others go on meanwhile.
        if let Err(error) = self.file.sync_data() {
            self.exclusive().give_up();
            return self.with_context(Err(error));
        }
        if dirty {
            self.with_context(self.exclusive().commit(&self.file))?;
        }
        Ok(())
    }

    fn zero(&self, offset: u64, len: u64, discard: bool) -> io::Result<()> {
        self.with_context(self.zero_at(offset, len, discard))
    }

    fn serial(&self) -> String {
        String::from("boxbuild")
    }
}

impl Drop for Qcow2Disk {
    fn drop(&mut self) {
        if self.shared().dirty()
            && let Err(error) = self.flush()
        {
            log::error!("the last changes of a disk are lost: {error}");
        }
    }
}
