//! Disk (virtio 1.2, section 5.2).

use std::io;
use std::sync::Arc;

use virtio_bindings::virtio_blk as blk;

use super::{Buffers, Context, Device, DeviceConfig, Fault, Kind};
use crate::disk::{Disk, SECTOR};

/// Entries of the queue.
const QUEUE: u16 = 256;
/// Buffers of one request: the queue, without header and status.
const SEGMENTS: u32 = QUEUE as u32 - 2;
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

/// A disk device.
#[derive(Debug)]
pub struct Block {
    disk: Box<dyn Disk>,
    config: Arc<DeviceConfig>,
}

impl Block {
    /// A device for `disk`.
    pub fn new(disk: Box<dyn Disk>) -> Block {
        // struct virtio_blk_config, section 5.2.4.
        let mut config = vec![0; 60];
        let mut put = |at: usize, value: &[u8]| {
            for (byte, value) in config.iter_mut().skip(at).zip(value) {
                *byte = *value;
            }
        };
        put(0, &(disk.size() / SECTOR).to_le_bytes());
        put(12, &SEGMENTS.to_le_bytes());
        for at in [36, 48] {
            put(at, &MOST_SECTORS.to_le_bytes());
            put(at + 4, &(MOST_RANGES as u32).to_le_bytes());
        }
        put(44, &DISCARD_ALIGNMENT.to_le_bytes());
        // Zeroed sectors may be given back.
        put(56, &[1]);
        Block {
            disk,
            config: Arc::new(DeviceConfig::new(config, 0..0)),
        }
    }

    /// Answers one request; returns the number of bytes written.
    fn serve(
        &mut self,
        mut readable: Buffers<'_>,
        mut writable: Buffers<'_>,
    ) -> Result<u32, Fault> {
        let header = readable.take_front(HEADER)?;
        let status = writable.take_back(1)?;
        let mut bytes = [0; HEADER];
        header.copy_to(&mut bytes);
        let kind = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let sector = u64::from_le_bytes(bytes[8..].try_into().unwrap_or_default());
        let (answer, written) = match self.request(kind, sector, &readable, &writable) {
            Ok(written) => (blk::VIRTIO_BLK_S_OK, written),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                (blk::VIRTIO_BLK_S_UNSUPP, 0)
            }
            Err(error) => {
                log::debug!("a request for the disk failed: {error}");
                (blk::VIRTIO_BLK_S_IOERR, 0)
            }
        };
        status.copy_from(&[answer as u8]);
        Ok((written as u32).saturating_add(1))
    }

    fn request(
        &mut self,
        kind: u32,
        sector: u64,
        readable: &Buffers<'_>,
        writable: &Buffers<'_>,
    ) -> io::Result<usize> {
        match kind {
            blk::VIRTIO_BLK_T_IN => {
                let offset = self.offset(sector, writable.len() as u64)?;
                self.disk.read(offset, writable)?;
                Ok(writable.len())
            }
            blk::VIRTIO_BLK_T_OUT => {
                self.writable()?;
                let offset = self.offset(sector, readable.len() as u64)?;
                self.disk.write(offset, readable)?;
                Ok(0)
            }
            blk::VIRTIO_BLK_T_FLUSH => {
                self.disk.flush()?;
                Ok(0)
            }
            blk::VIRTIO_BLK_T_DISCARD | blk::VIRTIO_BLK_T_WRITE_ZEROES => {
                self.writable()?;
                self.zero(kind == blk::VIRTIO_BLK_T_DISCARD, readable)?;
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

    fn zero(&mut self, discard: bool, ranges: &Buffers<'_>) -> io::Result<()> {
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
            let offset = self.offset(sector, len)?;
            if len > 0 {
                self.disk.zero(offset, len, discard)?;
            }
        }
        Ok(())
    }
}

impl Device for Block {
    fn kind(&self) -> Kind {
        Kind::Block
    }

    fn features(&self) -> u64 {
        let common = 1 << blk::VIRTIO_BLK_F_SEG_MAX | 1 << blk::VIRTIO_BLK_F_FLUSH;
        let more = if self.disk.is_read_only() {
            1 << blk::VIRTIO_BLK_F_RO
        } else {
            1 << blk::VIRTIO_BLK_F_DISCARD | 1 << blk::VIRTIO_BLK_F_WRITE_ZEROES
        };
        common | more
    }

    fn queue_sizes(&self) -> Vec<u16> {
        vec![QUEUE]
    }

    fn config(&self) -> Arc<DeviceConfig> {
        Arc::clone(&self.config)
    }

    fn notified(&mut self, index: usize, context: &mut Context) -> Result<(), Fault> {
        let Some(Some(queue)) = context.queues.get_mut(index) else {
            return Ok(());
        };
        let ram = &context.ram;
        queue.drain(ram, &context.interrupt, |chain| {
            let (readable, writable) = Buffers::split(ram, chain)?;
            self.serve(readable, writable)
        })
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
