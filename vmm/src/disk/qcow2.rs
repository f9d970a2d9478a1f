//! Reading qcow2 (QEMU, docs/interop/qcow2.rst). Nothing in an image is trusted.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::image::{ImageError, Place};
use super::volatile::read_at;

/// Incompatible feature bits.
mod feature {
    /// Reference counts may be wrong; they do not matter for reading.
    pub(super) const DIRTY: u64 = 1 << 0;
    pub(super) const CORRUPT: u64 = 1 << 1;
    pub(super) const EXTERNAL_DATA: u64 = 1 << 2;
    pub(super) const COMPRESSION_TYPE: u64 = 1 << 3;
    pub(super) const EXTENDED_L2: u64 = 1 << 4;
}

/// Bits 9 to 55 of a table's entry: an offset in the file.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// Bit 62 of an entry of a second-level table: compressed.
const COMPRESSED: u64 = 1 << 62;
/// Bit 0 of an entry of a second-level table (version 3): reads as zeros.
const ZERO: u64 = 1;
/// Length of a version 2 header, and of the first version 3 header.
const HEADER_2: usize = 72;
const HEADER_3: usize = 104;
/// Largest first-level table, in bytes (QEMU, `QCOW_MAX_L1_SIZE`).
const LARGEST_L1: u64 = 32 << 20;
/// Unpacked clusters that are kept.
const KEPT: usize = 64;

/// The tables of an image.
#[derive(Debug)]
pub(super) struct Qcow2 {
    len: u64,
    cluster_bits: u32,
    zstd: bool,
    l1: Box<[u64]>,
    /// Second-level tables, read when they are first needed: the image does not change.
    l2: Box<[OnceLock<Box<[u64]>>]>,
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

impl Qcow2 {
    pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

    pub(super) fn open(file: &File) -> Result<Qcow2, ImageError> {
        let mut header = [0; HEADER_3 + 8];
        read_at(file, &mut header, 0)?;
        let number = |at: usize| u64::from(be_u32(&header, at));
        let version = number(4);
        let unsupported = |what: &str| ImageError::Unsupported(what.to_owned());
        let header_len = match version {
            2 => HEADER_2 as u64,
            3 => number(100),
            other => return Err(ImageError::Unsupported(format!("qcow2 version {other}"))),
        };
        if version == 3 && header_len < HEADER_3 as u64 {
            return Err(ImageError::Damaged("its header is too short"));
        }
        if be_u64(&header, 8) != 0 {
            return Err(unsupported("a backing file"));
        }
        if number(32) != 0 {
            return Err(unsupported("encryption"));
        }
        let mut zstd = false;
        if version == 3 {
            let features = be_u64(&header, 72);
            if features & feature::CORRUPT != 0 {
                return Err(ImageError::Damaged("it is marked as corrupt"));
            }
            for (bit, name) in [
                (feature::EXTERNAL_DATA, "an external data file"),
                (feature::EXTENDED_L2, "extended L2 entries"),
            ] {
                if features & bit != 0 {
                    return Err(unsupported(name));
                }
            }
            if features & !(feature::DIRTY | feature::COMPRESSION_TYPE) != 0 {
                return Err(ImageError::Unsupported(format!(
                    "unknown features ({features:#x})"
                )));
            }
            if features & feature::COMPRESSION_TYPE != 0 {
                zstd = match header[HEADER_3] {
                    0 => false,
                    1 => true,
                    _ => return Err(unsupported("an unknown compression")),
                };
            }
        }
        let cluster_bits = be_u32(&header, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(ImageError::Damaged("its cluster size is out of range"));
        }
        let len = be_u64(&header, 24);
        // A second-level table is one cluster of 8-byte entries.
        let covered_bits = 2 * cluster_bits - 3;
        let l1_len = len.div_ceil(1 << covered_bits);
        let (l1_entries, l1_offset) = (number(36), be_u64(&header, 40));
        if l1_entries < l1_len || l1_len * 8 > LARGEST_L1 {
            return Err(ImageError::Damaged("its first table does not fit its size"));
        }
        let file_len = file.metadata()?.len();
        if l1_offset
            .checked_add(l1_len * 8)
            .is_none_or(|end| end > file_len)
        {
            return Err(ImageError::Damaged("its first table is not in the file"));
        }
        let l1 = read_table(file, l1_offset, l1_len as usize)?;
        Ok(Qcow2 {
            len,
            cluster_bits,
            zstd,
            l2: l1.iter().map(|_| OnceLock::new()).collect(),
            l1,
            kept: Mutex::new(VecDeque::with_capacity(KEPT)),
        })
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// The second-level table for a cluster, if there is one, and the cluster's index in it.
    fn entry(&self, file: &File, cluster: u64) -> io::Result<u64> {
        let l2_bits = self.cluster_bits - 3;
        let index = (cluster >> l2_bits) as usize;
        let offset = *self.l1.get(index).ok_or(ErrorKind::UnexpectedEof)? & OFFSET;
        if offset == 0 {
            return Ok(0);
        }
        if offset & (self.cluster() - 1) != 0 {
            return Err(damaged("a table's offset is not aligned"));
        }
        let slot = &self.l2[index];
        let table = match slot.get() {
            Some(table) => table,
            None => {
                let table = read_table(file, offset, 1 << l2_bits)?;
                slot.get_or_init(|| table)
            }
        };
        Ok(table[(cluster & ((1 << l2_bits) - 1)) as usize])
    }

    /// The place of `offset`, and for how many bytes it holds; the range is in the disk.
    pub(super) fn place(&self, file: &File, offset: u64, len: u64) -> io::Result<(Place, u64)> {
        let size = self.cluster();
        let cluster = offset >> self.cluster_bits;
        let within = offset & (size - 1);
        let first = self.entry(file, cluster)?;
        let mut count = size - within;
        if first & COMPRESSED != 0 {
            let place = Place::Compressed {
                entry: first,
                within,
            };
            return Ok((place, count.min(len)));
        }
        let base = self.host_offset(first)?;
        // Neighbours in the disk are neighbours in the file, most of the time.
        let mut next = cluster + 1;
        while count < len {
            let entry = self.entry(file, next)?;
            if entry & COMPRESSED != 0 {
                break;
            }
            let expected = base.map(|base| base + (next - cluster) * size);
            if self.host_offset(entry)? != expected {
                break;
            }
            count += size;
            next += 1;
        }
        let place = base.map_or(Place::Zero, |base| Place::File(base + within));
        Ok((place, count.min(len)))
    }

    /// Where the cluster of an entry is; `None` if it is zeros.
    fn host_offset(&self, entry: u64) -> io::Result<Option<u64>> {
        let offset = entry & OFFSET;
        if entry & ZERO != 0 || offset == 0 {
            return Ok(None);
        }
        if offset & (self.cluster() - 1) != 0 {
            return Err(damaged("a cluster's offset is not aligned"));
        }
        Ok(Some(offset))
    }

    /// The unpacked cluster of a compressed entry.
    pub(super) fn unpacked(&self, file: &File, entry: u64) -> io::Result<Arc<[u8]>> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cluster)) = lock().iter().find(|(kept, _)| *kept == entry) {
            return Ok(Arc::clone(cluster));
        }
        // Bits 0 to x-1: offset; x to 61: further sectors of 512 bytes.
        let x = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << x) - 1);
        let sectors = ((entry & (COMPRESSED - 1)) >> x) + 1;
        let length = sectors * 512 - (offset & 511);
        let mut packed = vec![0; length as usize];
        read_at(file, &mut packed, offset)?;
        let mut cluster = vec![0; self.cluster() as usize];
        if self.zstd {
            zstd::Decoder::with_buffer(&packed[..])?
                .single_frame()
                .read_exact(&mut cluster)?;
        } else {
            flate2::read::DeflateDecoder::new(&packed[..]).read_exact(&mut cluster)?;
        }
        let cluster: Arc<[u8]> = cluster.into();
        let mut kept = lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((entry, Arc::clone(&cluster)));
        Ok(cluster)
    }
}

fn read_table(file: &File, offset: u64, entries: usize) -> io::Result<Box<[u64]>> {
    let mut bytes = vec![0; entries * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes
        .chunks_exact(8)
        .map(|entry| be_u64(entry, 0))
        .collect())
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, ImageError::Damaged(what))
}

fn be_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be_u32(bytes, at)) << 32 | u64::from(be_u32(bytes, at + 4))
}
