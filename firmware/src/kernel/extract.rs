//! Decompresses kernels and other files in the formats that Linux uses.

use std::io::{self, Read};

use super::lzo1x;

/// Limit for decompressed data, in bytes: more than any kernel has. Stops decompression bombs.
pub(crate) const LARGEST: usize = 512 << 20;
/// Memory that a decoder may take, in bytes. Kernels are compressed with a window of 128 MiB at most.
const MEMORY: u64 = 512 << 20;

/// The formats that `scripts/Makefile.lib` of Linux makes for `CONFIG_KERNEL_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// RFC 1952.
    Gzip,
    /// xz with LZMA2 and the filter for x86 code.
    Xz,
    /// The legacy `.lzma` container.
    Lzma,
    /// LZ4's legacy frame.
    Lz4,
    /// lzop's file format.
    Lzo,
    /// RFC 8878.
    Zstd,
    /// An uncompressed ELF file.
    None,
}

/// Data that cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// No known magic number. Holds the first bytes.
    #[error("the kernel's compression is not known (it begins with {0:02x?})")]
    Unknown(Vec<u8>),
    /// The decompressor failed.
    #[error("the kernel's {0:?} data are damaged")]
    Damaged(Compression, #[source] io::Error),
    /// The output exceeds the limit.
    #[error("the kernel's data unpack to more than there may be")]
    TooLarge,
    /// The output is not an ELF file.
    #[error("there is no ELF file in the kernel image")]
    NotElf,
    /// The output is not an arm64 Image.
    #[error("there is no arm64 Image in the packed kernel")]
    NotImage,
}

impl Compression {
    /// Recognizes a format by its magic number.
    pub fn of(bytes: &[u8]) -> Option<Compression> {
        const MAGICS: &[(&[u8], Compression)] = &[
            (b"\x1f\x8b", Compression::Gzip),
            (b"\xfd7zXZ\0", Compression::Xz),
            (b"\x5d\0\0", Compression::Lzma),
            (b"\x02\x21\x4c\x18", Compression::Lz4),
            (b"\x89LZO\0\r\n\x1a\n", Compression::Lzo),
            (b"\x28\xb5\x2f\xfd", Compression::Zstd),
            (b"\x7fELF", Compression::None),
        ];
        MAGICS
            .iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, compression)| *compression)
    }
}

/// Decompresses the stream that `packed` begins with. Returns its content and the bytes after it;
/// there are none after LZ4, LZO and legacy LZMA, which take everything.
///
/// # Errors
/// If the format is not known, or the stream is damaged or too large.
pub fn unpack_start(packed: &[u8]) -> Result<(Vec<u8>, &[u8]), ExtractError> {
    unpack_at_most(packed, LARGEST)
}

/// The same for a content of at most `limit` bytes.
pub(crate) fn unpack_at_most(
    packed: &[u8],
    limit: usize,
) -> Result<(Vec<u8>, &[u8]), ExtractError> {
    let compression = Compression::of(packed)
        .ok_or_else(|| ExtractError::Unknown(packed[..packed.len().min(8)].to_vec()))?;
    let all = |unpacked: io::Result<Vec<u8>>| unpacked.map(|unpacked| (unpacked, &[][..]));
    let unpacked = match compression {
        Compression::None => fits(packed.len(), limit).map(|()| (packed.to_vec(), &[][..])),
        Compression::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(packed);
            bounded(&mut decoder, limit).map(|unpacked| (unpacked, decoder.into_inner()))
        }
        Compression::Xz => liblzma::stream::Stream::new_stream_decoder(MEMORY, 0)
            .map_err(io::Error::from)
            .and_then(|stream| {
                let mut decoder = liblzma::bufread::XzDecoder::new_stream(packed, stream);
                bounded(&mut decoder, limit).map(|unpacked| (unpacked, decoder.into_inner()))
            }),
        Compression::Zstd => zstd::Decoder::with_buffer(packed)
            .map(zstd::Decoder::single_frame)
            .and_then(|mut decoder| {
                bounded(&mut decoder, limit).map(|unpacked| (unpacked, decoder.finish()))
            }),
        Compression::Lzma => all(lzma(packed, limit)),
        Compression::Lz4 => all(lz4(packed, limit)),
        Compression::Lzo => all(lzo(packed, limit)),
    };
    unpacked.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => ExtractError::TooLarge,
        _ => ExtractError::Damaged(compression, error),
    })
}

/// The ELF file in a payload. What the kernel's build appends to the compressed data (their
/// uncompressed size, four bytes) is ignored.
pub(super) fn vmlinux(payload: &[u8]) -> Result<Vec<u8>, ExtractError> {
    let (elf, _) = unpack_start(payload)?;
    if elf.starts_with(b"\x7fELF") {
        Ok(elf)
    } else {
        Err(ExtractError::NotElf)
    }
}

/// Reads everything, up to the limit.
fn bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut unpacked)?;
    fits(unpacked.len(), limit)?;
    Ok(unpacked)
}

fn fits(length: usize, limit: usize) -> io::Result<()> {
    if length > limit {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

fn lzma(payload: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let stream = liblzma::stream::Stream::new_lzma_decoder(MEMORY)?;
    bounded(liblzma::read::XzDecoder::new_stream(payload, stream), limit)
}

/// LZ4's legacy frame: a magic number, then blocks of at most 8 MiB uncompressed, each preceded by
/// its compressed size (lz4, doc/lz4_Frame_format.md, "Legacy frame").
fn lz4(payload: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    const BLOCK: usize = 8 << 20;
    let mut rest = &payload[4..];
    let mut unpacked = Vec::new();
    let mut block = vec![0; BLOCK];
    // The size that the kernel's build appends looks like a block's, but no block follows it.
    while rest.len() > 4 {
        let (size, tail) = rest.split_at(4);
        let size = u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize;
        let packed = tail.get(..size).ok_or(io::ErrorKind::UnexpectedEof)?;
        let length = lz4_flex::block::decompress_into(packed, &mut block).map_err(damaged)?;
        unpacked.extend_from_slice(&block[..length]);
        fits(unpacked.len(), limit)?;
        rest = &tail[size..];
    }
    Ok(unpacked)
}

/// lzop's file format, as far as `lzop -9` writes it (Linux, lib/decompress_unlzo.c reads the same):
/// a header, then blocks with their uncompressed and compressed sizes and the checksums that the
/// header's flags announce.
fn lzo(payload: &[u8], limit: usize) -> io::Result<Vec<u8>> {
    /// `F_ADLER32_D`, `F_CRC32_D`: a checksum of the uncompressed block follows the sizes.
    const CHECKED_UNPACKED: u32 = 0x001 | 0x100;
    /// `F_ADLER32_C`, `F_CRC32_C`: a checksum of the compressed block follows.
    const CHECKED_PACKED: u32 = 0x002 | 0x200;
    /// `F_H_FILTER`: one more field in the header.
    const FILTERED: u32 = 0x800;
    /// lzop's largest block.
    const BLOCK: usize = 64 << 20;

    let mut rest = payload;
    let mut take = |count: usize| -> io::Result<&[u8]> {
        let (head, tail) = rest
            .split_at_checked(count)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        rest = tail;
        Ok(head)
    };
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte))
    };
    take(9)?;
    let version = number(take(2)?);
    take(2)?; // version of the library
    if version >= 0x940 {
        take(2)?; // version needed to extract
    }
    take(1)?; // method
    if version >= 0x940 {
        take(1)?; // level
    }
    let flags = number(take(4)?);
    if flags & FILTERED != 0 {
        take(4)?;
    }
    take(8)?; // mode, low half of the time
    if version >= 0x940 {
        take(4)?; // high half of the time
    }
    let name = number(take(1)?) as usize;
    take(name)?;
    take(4)?; // the header's checksum
    let mut unpacked = Vec::new();
    loop {
        let length = number(take(4)?) as usize;
        if length == 0 {
            return Ok(unpacked);
        }
        let size = number(take(4)?) as usize;
        if length > BLOCK || size > length {
            return Err(damaged("a block's size"));
        }
        fits(unpacked.len() + length, limit)?;
        for kind in [CHECKED_UNPACKED, CHECKED_PACKED] {
            // A block that did not shrink has no second checksum.
            if kind == CHECKED_UNPACKED || size < length {
                take(4 * (flags & kind).count_ones() as usize)?;
            }
        }
        let packed = take(size)?;
        if size == length {
            unpacked.extend_from_slice(packed);
        } else {
            let block = lzo1x::unpack(packed, length).ok_or_else(|| damaged("a block of LZO"))?;
            unpacked.extend_from_slice(&block);
        }
        fits(unpacked.len(), limit)?;
    }
}

fn damaged(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Compresses about as well as code.
    fn elf() -> Vec<u8> {
        let mut bytes = b"\x7fELF".to_vec();
        for number in 0..30_000_u32 {
            bytes.extend_from_slice(&(number * number % 251).to_le_bytes());
            bytes.extend_from_slice(b"common");
        }
        bytes
    }

    fn with_xz(stream: liblzma::stream::Stream, data: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// As `scripts/xz_wrap.sh` of Linux does.
    fn xz(data: &[u8]) -> Vec<u8> {
        use liblzma::stream::{Check, Filters, LzmaOptions, Stream};
        let mut filters = Filters::new();
        filters.x86();
        filters.lzma2(&LzmaOptions::new_preset(6).unwrap());
        with_xz(
            Stream::new_stream_encoder(&filters, Check::Crc32).unwrap(),
            data,
        )
    }

    fn lzma_alone(data: &[u8]) -> Vec<u8> {
        use liblzma::stream::{LzmaOptions, Stream};
        let options = LzmaOptions::new_preset(6).unwrap();
        with_xz(Stream::new_lzma_encoder(&options).unwrap(), data)
    }

    fn lz4_legacy(data: &[u8]) -> Vec<u8> {
        let mut packed = b"\x02\x21\x4c\x18".to_vec();
        for block in data.chunks(100_000) {
            let block = lz4_flex::block::compress(block);
            packed.extend_from_slice(&(block.len() as u32).to_le_bytes());
            packed.extend_from_slice(&block);
        }
        packed
    }

    /// With the header that lzop 1.04 writes.
    fn lzop(data: &[u8]) -> Vec<u8> {
        let mut packed = b"\x89LZO\0\r\n\x1a\n\x10\x40\x20\xa0\x09\x40\x03\x09".to_vec();
        packed.extend_from_slice(&0x0300_0001_u32.to_be_bytes()); // F_OS_UNIX, F_ADLER32_D
        packed.extend_from_slice(&[0; 12]);
        packed.push(4);
        packed.extend_from_slice(b"name");
        packed.extend_from_slice(&[0; 4]);
        for block in data.chunks(100_000) {
            let mut small = lzokay_native::compress(block).unwrap();
            if small.len() >= block.len() {
                small = block.to_vec(); // the last one here
            }
            packed.extend_from_slice(&(block.len() as u32).to_be_bytes());
            packed.extend_from_slice(&(small.len() as u32).to_be_bytes());
            packed.extend_from_slice(&[0; 4]);
            packed.extend_from_slice(&small);
        }
        packed.extend_from_slice(&[0; 4]);
        packed
    }

    fn packed(data: &[u8]) -> Vec<(Compression, Vec<u8>)> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(data).unwrap();
        vec![
            (Compression::Gzip, gzip.finish().unwrap()),
            (Compression::Xz, xz(data)),
            (Compression::Lzma, lzma_alone(data)),
            (Compression::Zstd, zstd::encode_all(data, 3).unwrap()),
            (Compression::Lz4, lz4_legacy(data)),
            (Compression::Lzo, lzop(data)),
            (Compression::None, data.to_vec()),
        ]
    }

    #[test]
    fn every_compression() {
        let elf = elf();
        for (compression, mut packed) in packed(&elf) {
            assert_eq!(Compression::of(&packed), Some(compression));
            if compression != Compression::None {
                // What the kernel's build appends.
                packed.extend_from_slice(&(elf.len() as u32).to_le_bytes());
            }
            assert!(vmlinux(&packed).unwrap() == elf, "{compression:?}");
        }
    }

    #[test]
    fn damage_is_found() {
        for (compression, packed) in packed(&elf()) {
            if compression == Compression::None {
                continue;
            }
            let cut = vmlinux(&packed[..packed.len() / 2]);
            assert!(
                matches!(&cut, Err(ExtractError::Damaged(which, _)) if *which == compression),
                "{compression:?}: {:?}",
                cut.map(|bytes| bytes.len())
            );
        }
        assert!(matches!(vmlinux(b"BZh9..."), Err(ExtractError::Unknown(_))));
        assert!(matches!(vmlinux(b""), Err(ExtractError::Unknown(_))));
        let text = zstd::encode_all(&b"no ELF"[..], 3).unwrap();
        assert!(matches!(vmlinux(&text), Err(ExtractError::NotElf)));
    }
}
