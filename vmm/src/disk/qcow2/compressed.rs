//! Compressed clusters.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::{Decompress, FlushDecompress, Status};

use super::table::{COMPRESSED, COPIED, damaged};
use crate::disk::file_io::read_at;

/// Unpacked clusters that are kept, in bytes.
const KEPT: usize = 4 << 20;

/// Unpacks clusters and keeps the last ones.
#[derive(Debug)]
pub(super) struct Unpacker {
    cluster_bits: u32,
    zstd: bool,
    kept: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

impl Unpacker {
    pub(super) fn new(cluster_bits: u32, zstd: bool) -> Unpacker {
        Unpacker {
            cluster_bits,
            zstd,
            kept: Mutex::default(),
        }
    }

    /// The most bytes that one packed byte can stand for.
    pub(super) fn largest_ratio(&self) -> u64 {
        /// A block of zstd that repeats one byte 128 Ki times takes four bytes (RFC 8878, section
        /// 3.1.1.2).
        const ZSTD: u64 = (128 << 10) / 4;
        /// zlib's documentation, "Maximum Expansion Factor".
        const DEFLATE: u64 = 1032;
        if self.zstd { ZSTD } else { DEFLATE }
    }

    /// Where in the file the packed cluster of `entry` may be: it ends somewhere in the last
    /// sector.
    pub(super) fn range(&self, entry: u64) -> Range<u64> {
        // Bits 0 to x-1: offset; x to 61: further sectors of 512 bytes.
        let x = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << x) - 1);
        let further = (entry & !COPIED & (COMPRESSED - 1)) >> x;
        offset..(offset & !511) + (further + 1) * 512
    }

    /// The unpacked cluster of a compressed entry.
    pub(super) fn unpacked(&self, file: &File, entry: u64) -> io::Result<Arc<[u8]>> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, cluster)) = lock().iter().rev().find(|(kept, _)| *kept == entry) {
            return Ok(Arc::clone(cluster));
        }
        let range = self.range(entry);
        let mut packed = vec![0; (range.end - range.start) as usize];
        read_at(file, &mut packed, range.start)?;
        let mut cluster = vec![0; 1 << self.cluster_bits];
        if self.zstd {
            zstd::Decoder::with_buffer(&packed[..])?
                .single_frame()
                .read_exact(&mut cluster)?;
        } else {
            // A stream without a header; a full cluster is enough, whatever follows.
            let mut inflate = Decompress::new(false);
            let status = inflate.decompress(&packed, &mut cluster, FlushDecompress::Finish);
            let full = inflate.total_out() == cluster.len() as u64;
            if !full
                || !matches!(
                    status,
                    Ok(Status::StreamEnd | Status::Ok | Status::BufError)
                )
            {
                return Err(damaged("a compressed cluster cannot be unpacked"));
            }
        }
        let cluster: Arc<[u8]> = cluster.into();
        let mut kept = lock();
        while kept.len() >= (KEPT >> self.cluster_bits).max(1) {
            kept.pop_front();
        }
        kept.push_back((entry, Arc::clone(&cluster)));
        Ok(cluster)
    }
}
