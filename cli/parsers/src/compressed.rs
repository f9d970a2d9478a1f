//! Streams that gzip, xz or zstd may have compressed.

use std::io::{self, BufRead, Read};

use liblzma::stream::{CONCATENATED, Stream};

/// Memory limit of a decoder of xz in bytes: `xz -9` needs 65 MiB.
const DECODER_MEMORY: u64 = 256 << 20;

/// First bytes of gzip (RFC 1952, section 2.3.1), xz (its file format, section 2.1.1.1) and zstd (RFC 8878,
/// section 3.1.1).
const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";

/// Whether bytes are the beginning of something compressed.
pub(crate) fn is_compressed(head: &[u8]) -> bool {
    [GZIP, XZ, ZSTD].iter().any(|magic| head.starts_with(magic))
}

/// Decompresses what `file` has as it is read; anything else is as it is.
pub(crate) fn reader<'a>(mut file: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let magic = file.fill_buf()?;
    Ok(if magic.starts_with(GZIP) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if magic.starts_with(XZ) {
        let decoder = Stream::new_stream_decoder(DECODER_MEMORY, CONCATENATED)?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(file, decoder))
    } else if magic.starts_with(ZSTD) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else {
        Box::new(file)
    })
}
