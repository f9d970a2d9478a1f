//! How clusters are packed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::zstd_safe::{DCtx, find_frame_compressed_size};

use super::table::{COMPRESSED, COPIED, damaged};
use crate::disk::file_io::read_at;

/// The compression of an image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec {
    pub(super) cluster_bits: u32,
    /// With zstd, not deflate.
    pub(super) zstd: bool,
}

/// What unpacking works with: made once for each thread that unpacks at the same time.
pub(super) struct Decoder {
    packed: Vec<u8>,
    algorithm: Algorithm,
}

enum Algorithm {
    Deflate(Decompress),
    Zstd(DCtx<'static>),
}

impl Codec {
    /// The most bytes that one packed byte can stand for.
    pub(super) fn largest_ratio(self) -> u64 {
        /// A block of zstd that repeats one byte 128 Ki times takes four bytes (RFC 8878, section
        /// 3.1.1.2).
        const ZSTD: u64 = (128 << 10) / 4;
        /// zlib's documentation, "Maximum Expansion Factor".
        const DEFLATE: u64 = 1032;
        if self.zstd { ZSTD } else { DEFLATE }
    }

    /// Where in the file the packed cluster of `entry` may be: it ends somewhere in the last
    /// sector.
    pub(super) fn range(self, entry: u64) -> Range<u64> {
        // Bits 0 to x-1: offset; x to 61: further sectors of 512 bytes.
        let x = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << x) - 1);
        let further = (entry & !COPIED & (COMPRESSED - 1)) >> x;
        offset..(offset & !511) + (further + 1) * 512
    }

    pub(super) fn decoder(self) -> Decoder {
        Decoder {
            packed: Vec::new(),
            algorithm: if self.zstd {
                Algorithm::Zstd(DCtx::create())
            } else {
                // A stream without a header.
                Algorithm::Deflate(Decompress::new(false))
            },
        }
    }

    /// Reads and unpacks the cluster of a compressed entry, into the memory of `spare` if nothing else
    /// refers to it.
    ///
    /// # Errors
    /// If the file cannot be read, or there is less than a cluster in it.
    pub(super) fn unpack(
        self,
        file: &File,
        entry: u64,
        decoder: &mut Decoder,
        spare: Option<Arc<[u8]>>,
    ) -> io::Result<Arc<[u8]>> {
        let range = self.range(entry);
        decoder.packed.resize((range.end - range.start) as usize, 0);
        read_at(file, &mut decoder.packed, range.start)?;
        let spare = spare.filter(|spare| Arc::strong_count(spare) == 1);
        let fresh = || std::iter::repeat_n(0, 1 << self.cluster_bits).collect();
        let mut cluster: Arc<[u8]> = spare.unwrap_or_else(fresh);
        // All of it is written, or it is not returned.
        let bytes = Arc::get_mut(&mut cluster).ok_or_else(|| io::Error::other("in use"))?;
        decoder.decode(bytes)?;
        Ok(cluster)
    }
}

impl Decoder {
    /// Fills `cluster` from what is packed. A full cluster is enough, whatever follows.
    fn decode(&mut self, cluster: &mut [u8]) -> io::Result<()> {
        let full = match &mut self.algorithm {
            Algorithm::Deflate(inflate) => {
                inflate.reset(false);
                let status = inflate.decompress(&self.packed, cluster, FlushDecompress::Finish);
                inflate.total_out() == cluster.len() as u64
                    && matches!(
                        status,
                        Ok(Status::StreamEnd | Status::Ok | Status::BufError)
                    )
            }
            // In one piece: no window that a frame asks for is allocated.
            Algorithm::Zstd(context) => find_frame_compressed_size(&self.packed)
                .ok()
                .and_then(|len| self.packed.get(..len))
                .and_then(|frame| context.decompress(cluster, frame).ok())
                .is_some_and(|len| len == cluster.len()),
        };
        if full {
            Ok(())
        } else {
            Err(damaged("a compressed cluster cannot be unpacked"))
        }
    }
}
