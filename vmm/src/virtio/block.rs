//! Disk (virtio 1.2, section 5.2).

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use boxbuild_virtiofs::Traffic;
use virtio_bindings::virtio_blk as blk;
use vm_memory::ByteValued;

use super::chain::{Chain, split_chain};
use super::config::DeviceConfig;
use super::device::{Context, Device};
use super::fault::Fault;
use super::interrupt::Interrupt;
use super::kind::Kind;
use super::pieces::{ZERO_PIECE, go_on, in_pieces, piece_end};
use super::queue::ActiveQueue;
use super::queue_thread::QueueThread;
use super::stop_flag::StopFlag;
use super::wire::BlockConfig;
use crate::disk::{Disk, SECTOR};
use crate::guest_io::Buffers;
use crate::memory::GuestRam;

/// Entries of the queue.
const QUEUE: u16 = 256;
/// Buffers of one request: the queue, without header and status.
const SEGMENTS: u32 = QUEUE as u32 - 2;
/// Bytes of one buffer, and of all of a request. Linux makes requests of at most 4 MiB unless it is told
/// otherwise, whatever is offered here.
const SEGMENT: u32 = 1 << 20;
const MOST_BYTES: u64 = SEGMENTS as u64 * SEGMENT as u64;
/// Sectors of one discard or write-zeroes request, and ranges of one.
const MOST_SECTORS: u32 = 1 << 22;
const MOST_RANGES: usize = 16;
/// Alignment in sectors that discards should have: file systems have pages of 4 KiB.
const DISCARD_ALIGNMENT: u32 = 8;
/// Bytes of a request's header: type, reserved, sector.
const HEADER: usize = 16;
/// Bytes of a discard range: sector, number of sectors, flags.
const RANGE: usize = 16;
/// Bytes of the identification.
const SERIAL: usize = blk::VIRTIO_BLK_ID_BYTES as usize;

/// Most queues, and with that most threads, of one disk.
pub const MOST_QUEUES: u16 = 4;
/// Physical blocks have this power of two of sectors: 4 KiB, the pages of both kernels.
const PHYSICAL_BLOCK: u8 = 3;
/// Requests behind the one that is served of which a disk that reads ahead is told.
const LOOKED_AT: u16 = 32;
/// Failures of one disk that are told; a guest that goes on trying is not news.
const MOST_NOTICES: u32 = 4;

/// An error of the host below a disk, in words for the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskError {
    /// There is no room for what the guest writes, on the file system or in the user's quota.
    /// Told once; everything that the guest writes from now on can fail.
    StorageFull(String),
    /// Anything else, told for the first few requests.
    Other(String),
}

/// Gets the errors of the host below a disk.
pub type Notices = Arc<dyn Fn(DiskError) + Send + Sync>;

/// A disk device: one queue for each CPU, and a thread for each queue.
pub struct Block {
    server: Arc<Server>,
    config: Arc<DeviceConfig>,
    queues: u16,
    /// All queues but the first, which has the device's own thread.
    threads: Vec<QueueThread>,
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block")
            .field("disk", &self.server.disk)
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

impl Block {
    /// Creates the device of `disk`, with one queue for each of `cpus` virtual CPUs, up to
    /// [`MOST_QUEUES`]. The guest sees I/O errors where the host fails; `notices` gets why.
    pub fn new(disk: Box<dyn Disk>, cpus: u32, notices: Notices) -> Block {
        let queues = cpus.clamp(1, u32::from(MOST_QUEUES)) as u16;
        let config = config(disk.size() / SECTOR, queues);
        Block {
            server: Arc::new(Server {
                disk,
                notices,
                traffic: Traffic::default(),
                told: AtomicU32::new(0),
                told_full: AtomicBool::new(false),
            }),
            config: Arc::new(DeviceConfig::new(config, 0..0)),
            queues,
            threads: Vec::new(),
        }
    }
}

/// Configuration space of a disk of so many sectors.
fn config(sectors: u64, queues: u16) -> Vec<u8> {
    let config = BlockConfig(blk::virtio_blk_config {
        capacity: sectors.to_le(),
        size_max: SEGMENT.to_le(),
        seg_max: SEGMENTS.to_le(),
        blk_size: (SECTOR as u32).to_le(),
        physical_block_exp: PHYSICAL_BLOCK,
        min_io_size: (1_u16 << PHYSICAL_BLOCK).to_le(),
        num_queues: queues.to_le(),
        max_discard_sectors: MOST_SECTORS.to_le(),
        max_discard_seg: (MOST_RANGES as u32).to_le(),
        discard_sector_alignment: DISCARD_ALIGNMENT.to_le(),
        max_write_zeroes_sectors: MOST_SECTORS.to_le(),
        max_write_zeroes_seg: (MOST_RANGES as u32).to_le(),
        // Zeroed sectors may be given back.
        write_zeroes_may_unmap: 1,
        ..blk::virtio_blk_config::default()
    });
    // Without the fields of features that are not offered: secure erase, zones.
    let end = offset_of!(blk::virtio_blk_config, max_secure_erase_sectors);
    config.as_slice().get(..end).unwrap_or_default().to_vec()
}

/// Answers requests, on any thread.
struct Server {
    disk: Box<dyn Disk>,
    notices: Notices,
    traffic: Traffic,
    told: AtomicU32,
    told_full: AtomicBool,
}

impl Server {
    /// Answers everything in `queue`. Without `write_back`, the driver knows no flush, and what
    /// is written must survive at once (section 5.2.6.2).
    fn drain(
        &self,
        queue: &mut ActiveQueue,
        ram: &GuestRam,
        interrupt: &Interrupt,
        write_back: bool,
    ) -> Result<(), Fault> {
        let stop = queue.stop().clone();
        let serve = |chain| {
            let (readable, writable) = split_chain(ram, chain, QUEUE)?;
            self.serve(readable, writable, write_back, &stop)
        };
        if self.disk.reads_ahead() {
            let look = |chain| self.will_serve(ram, chain);
            queue.drain_looking_ahead(ram, interrupt, (LOOKED_AT, look), serve)
        } else {
            queue.drain(ram, interrupt, serve)
        }
    }

    /// Tells the disk of a request that waits. Returns whether it is of use to tell of more.
    fn will_serve<'m>(&self, ram: &'m GuestRam, chain: Chain<'m>) -> bool {
        // What is wrong with a request is found when it is served.
        let Ok((mut readable, writable)) = split_chain(ram, chain, QUEUE) else {
            return true;
        };
        let Ok(header) = readable.take_front(HEADER) else {
            return true;
        };
        match header_of(&header) {
            (blk::VIRTIO_BLK_T_IN, sector) => {
                let offset = sector.saturating_mul(SECTOR);
                // Without the status.
                let len = writable.len().saturating_sub(1);
                self.disk.will_read(offset, len as u64)
            }
            _ => true,
        }
    }

    /// Reports a failed request to the user, if it is the host's fault; the guest learns of its own
    /// mistakes by the status.
    fn failed(&self, kind: u32, error: &io::Error) {
        log::debug!("a request for the disk failed: {error}");
        let guests = matches!(
            error.kind(),
            io::ErrorKind::InvalidInput
                | io::ErrorKind::ReadOnlyFilesystem
                // The device stops.
                | io::ErrorKind::Interrupted
        );
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let known = || match full {
            true => self.told_full.swap(true, Ordering::Relaxed),
            false => self.told.fetch_add(1, Ordering::Relaxed) >= MOST_NOTICES,
        };
        if guests || known() {
            return;
        }
        let action = match kind {
            blk::VIRTIO_BLK_T_IN => "read from",
            blk::VIRTIO_BLK_T_FLUSH => "flush",
            _ => "write to",
        };
        let text = format!("the guest cannot {action} its disk: {error}");
        (self.notices)(if full {
            DiskError::StorageFull(text)
        } else {
            DiskError::Other(text)
        });
    }

    /// Answers one request; returns the number of bytes written.
    fn serve(
        &self,
        mut readable: Buffers<'_>,
        mut writable: Buffers<'_>,
        write_back: bool,
        stop: &StopFlag,
    ) -> Result<u32, Fault> {
        let header = readable.take_front(HEADER)?;
        let status = writable.take_back(1)?;
        let (kind, sector) = header_of(&header);
        let written = !readable.is_empty();
        let mut result = self.request(kind, sector, readable, writable, stop);
        if result.is_ok() && !write_back && written {
            result = self.disk.flush().map(|()| 0);
        }
        let (answer, written) = match result {
            Ok(written) => (blk::VIRTIO_BLK_S_OK, written),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                (blk::VIRTIO_BLK_S_UNSUPP, 0)
            }
            Err(error) => {
                self.failed(kind, &error);
                (blk::VIRTIO_BLK_S_IOERR, 0)
            }
        };
        status.copy_from(&[answer as u8]);
        Ok((written as u32).saturating_add(1))
    }

    fn request(
        &self,
        kind: u32,
        sector: u64,
        readable: Buffers<'_>,
        writable: Buffers<'_>,
        stop: &StopFlag,
    ) -> io::Result<usize> {
        match kind {
            blk::VIRTIO_BLK_T_IN => {
                let len = writable.len();
                let offset = self.data(sector, len)?;
                in_pieces(offset, writable, stop, |at, part| self.disk.read(at, part))?;
                self.traffic.add_to_guest(len);
                Ok(len)
            }
            blk::VIRTIO_BLK_T_OUT => {
                self.writable()?;
                let len = readable.len();
                let offset = self.data(sector, len)?;
                in_pieces(offset, readable, stop, |at, part| self.disk.write(at, part))?;
                self.traffic.add_from_guest(len);
                Ok(0)
            }
            blk::VIRTIO_BLK_T_FLUSH => {
                self.disk.flush()?;
                Ok(0)
            }
            blk::VIRTIO_BLK_T_DISCARD | blk::VIRTIO_BLK_T_WRITE_ZEROES => {
                self.writable()?;
                self.zero(kind == blk::VIRTIO_BLK_T_DISCARD, &readable, stop)?;
                Ok(0)
            }
            blk::VIRTIO_BLK_T_GET_ID => {
                let mut serial = self.disk.serial().into_bytes();
                serial.resize(SERIAL, 0);
                Ok(writable.copy_from(&serial))
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn writable(&self) -> io::Result<()> {
        if self.disk.is_read_only() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }

    /// The offset in bytes of a request for `len` bytes from `sector` on.
    fn data(&self, sector: u64, len: usize) -> io::Result<u64> {
        if len as u64 > MOST_BYTES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.offset(sector, len as u64)
    }

    /// The offset in bytes of `len` bytes from `sector` on, if they are on the disk.
    fn offset(&self, sector: u64, len: u64) -> io::Result<u64> {
        let offset = sector.checked_mul(SECTOR);
        offset
            .filter(|_| len.is_multiple_of(SECTOR))
            .filter(|offset| {
                offset
                    .checked_add(len)
                    .is_some_and(|end| end <= self.disk.size())
            })
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    fn zero(&self, discard: bool, ranges: &Buffers<'_>, stop: &StopFlag) -> io::Result<()> {
        let mut bytes = vec![0; ranges.len().min((MOST_RANGES + 1) * RANGE)];
        ranges.copy_to(&mut bytes);
        if !bytes.len().is_multiple_of(RANGE) || bytes.len() / RANGE > MOST_RANGES {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        for range in bytes.chunks_exact(RANGE) {
            let sector = u64::from_le_bytes(range[..8].try_into().unwrap_or_default());
            let count = u32::from_le_bytes(range[8..12].try_into().unwrap_or_default());
            let flags = u32::from_le_bytes(range[12..].try_into().unwrap_or_default());
            let known = if discard { 0 } else { 1 };
            if flags & !known != 0 {
                return Err(io::ErrorKind::Unsupported.into());
            }
            if count > MOST_SECTORS {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            let len = u64::from(count) * SECTOR;
            let mut at = self.offset(sector, len)?;
            let end = at + len;
            while at < end {
                let piece = piece_end(at, ZERO_PIECE).min(end) - at;
                go_on(stop)?;
                self.disk.zero(at, piece, discard)?;
                at += piece;
            }
        }
        Ok(())
    }
}

/// Type and sector of a request.
fn header_of(header: &Buffers<'_>) -> (u32, u64) {
    let mut bytes = [0; HEADER];
    header.copy_to(&mut bytes);
    let kind = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let sector = u64::from_le_bytes(bytes[8..].try_into().unwrap_or_default());
    (kind, sector)
}

impl Device for Block {
    fn kind(&self) -> Kind {
        Kind::Block
    }

    fn features(&self) -> u64 {
        let common = 1 << blk::VIRTIO_BLK_F_SIZE_MAX
            | 1 << blk::VIRTIO_BLK_F_SEG_MAX
            | 1 << blk::VIRTIO_BLK_F_FLUSH
            | 1 << blk::VIRTIO_BLK_F_BLK_SIZE
            | 1 << blk::VIRTIO_BLK_F_TOPOLOGY
            | 1 << blk::VIRTIO_BLK_F_MQ;
        let more = if self.server.disk.is_read_only() {
            1 << blk::VIRTIO_BLK_F_RO
        } else {
            1 << blk::VIRTIO_BLK_F_DISCARD | 1 << blk::VIRTIO_BLK_F_WRITE_ZEROES
        };
        common | more
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE; usize::from(self.queues)]
    }

    fn traffic(&self) -> Traffic {
        self.server.traffic.clone()
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.config)
    }

    fn activate(&mut self, context: &mut Context) -> Result<(), Fault> {
        self.server.disk.allow_help(&context.threads);
        let write_back = write_back(context.features);
        let queues = context.queues.iter_mut().skip(1);
        let queues: Vec<ActiveQueue> = queues.filter_map(Option::take).collect();
        for queue in queues {
            let (server, ram) = (Arc::clone(&self.server), context.ram.clone());
            let interrupt = context.interrupt.clone();
            let serve =
                move |queue: &mut ActiveQueue| server.drain(queue, &ram, &interrupt, write_back);
            let thread = QueueThread::start(Kind::Block, queue, context, serve);
            self.threads
                .push(thread.map_err(|error| Fault::Host(error.to_string()))?);
        }
        Ok(())
    }

    /// What the guest did not flush is kept as well, where the disk keeps anything.
    fn deactivate(&mut self) {
        self.threads.clear();
        if let Err(error) = self.server.disk.flush() {
            self.server.failed(blk::VIRTIO_BLK_T_FLUSH, &error);
        }
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(index) else {
            return Ok(());
        };
        let write_back = write_back(context.features);
        self.server
            .drain(queue, &context.ram, &context.interrupt, write_back)
    }
}

/// Whether the driver flushes when something must survive.
fn write_back(features: u64) -> bool {
    features & 1 << blk::VIRTIO_BLK_F_FLUSH != 0
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "block_stress_tests.rs"]
mod stress_tests;
