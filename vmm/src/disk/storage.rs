//! The interface of all kinds of disks.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::guest_io::Buffers;
use crate::threads::Threads;

/// Bytes of a sector, the unit of all offsets in virtio-blk.
pub const SECTOR: u64 = 512;

/// Storage of a disk.
///
/// The caller has checked that offset and length lie inside of [`size`](Self::size). Several
/// threads may call at once; a read of what another call is writing gets any mixture of both. Errors
/// say to which file they happened.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Bytes, a multiple of [`SECTOR`].
    fn size(&self) -> u64;

    /// Whether writes are refused.
    fn is_read_only(&self) -> bool;

    /// Fills `target` from `offset` (bytes) on.
    ///
    /// # Errors
    /// If the storage fails.
    fn read(&self, offset: u64, target: &Buffers<'_>) -> io::Result<()>;

    /// Stores `source` from `offset` (bytes) on.
    ///
    /// # Errors
    /// If the storage fails or is full.
    fn write(&self, offset: u64, source: &Buffers<'_>) -> io::Result<()>;

    /// Makes everything written so far survive a crash of the host.
    ///
    /// # Errors
    /// If the storage fails.
    fn flush(&self) -> io::Result<()>;

    /// Makes `len` bytes from `offset` on read as zeros. With `discard` their contents do not
    /// matter any more, and doing nothing is correct, too.
    ///
    /// # Errors
    /// If the storage fails.
    fn zero(&self, offset: u64, len: u64, discard: bool) -> io::Result<()>;

    /// Returns the serial number that the guest reads, at most 20 bytes.
    fn serial(&self) -> String;

    /// Allows the disk to have threads of its own, if it has work for them.
    fn allow_help(&self, _threads: &Threads) {}

    /// Whether it is of use to say what will be read soon.
    fn reads_ahead(&self) -> bool {
        false
    }

    /// Says that `len` bytes from `offset` (bytes) on will be read soon; they need not be on the disk.
    /// Returns whether it is of use to say more now.
    fn will_read(&self, _offset: u64, _len: u64) -> bool {
        false
    }
}

impl<D: Disk + ?Sized> Disk for Arc<D> {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn is_read_only(&self) -> bool {
        (**self).is_read_only()
    }

    fn read(&self, offset: u64, target: &Buffers<'_>) -> io::Result<()> {
        (**self).read(offset, target)
    }

    fn write(&self, offset: u64, source: &Buffers<'_>) -> io::Result<()> {
        (**self).write(offset, source)
    }

    fn flush(&self) -> io::Result<()> {
        (**self).flush()
    }

    fn zero(&self, offset: u64, len: u64, discard: bool) -> io::Result<()> {
        (**self).zero(offset, len, discard)
    }

    fn serial(&self) -> String {
        (**self).serial()
    }

    fn allow_help(&self, threads: &Threads) {
        (**self).allow_help(threads);
    }

    fn reads_ahead(&self) -> bool {
        (**self).reads_ahead()
    }

    fn will_read(&self, offset: u64, len: u64) -> bool {
        (**self).will_read(offset, len)
    }
}
