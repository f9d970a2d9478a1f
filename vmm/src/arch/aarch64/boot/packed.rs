//! Kernels that are packed: `Image.gz`, and EFI programs that unpack an Image
//! (`CONFIG_EFI_ZBOOT`; Linux, drivers/firmware/efi/libstub/zboot-header.S). An Image does not
//! unpack itself as a bzImage does, and there is no EFI here that could run such a program.
//!
//! Whoever starts many machines unpacks their kernel once, beforehand; this is for one that was not.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use flate2::bufread::GzDecoder;

use crate::arch::boot::BootError;

/// An Image that is packed: how, and where in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packed {
    format: Format,
    offset: u64,
    len: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Format {
    Gzip,
    Zstd,
}

/// Recognizes a packed Image by the first 64 bytes of its file.
pub(super) fn recognize(start: &[u8]) -> Result<Option<Packed>, BootError> {
    let whole = |format| Packed {
        format,
        offset: 0,
        len: u64::MAX,
    };
    if start.starts_with(b"\x1f\x8b") {
        return Ok(Some(whole(Format::Gzip)));
    }
    if start.starts_with(b"\x28\xb5\x2f\xfd") {
        return Ok(Some(whole(Format::Zstd)));
    }
    if !start.starts_with(b"MZ") || start.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    let number = |at: usize| {
        let field = start
            .get(at..at + 4)
            .and_then(|field| field.try_into().ok());
        field.map(u32::from_le_bytes).ok_or(BootError::Format)
    };
    let name = start.get(24..56).ok_or(BootError::Format)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(Packed {
        format: match name {
            b"gzip" => Format::Gzip,
            b"zstd" => Format::Zstd,
            other => return Err(BootError::Packed(other.escape_ascii().to_string())),
        },
        offset: number(8)?.into(),
        len: number(12)?.into(),
    }))
}

impl Packed {
    /// Unpacks it to at most `most` bytes.
    pub(super) fn unpack(&self, file: &mut File, most: u64) -> Result<Vec<u8>, BootError> {
        file.seek(SeekFrom::Start(self.offset))
            .map_err(BootError::KernelFile)?;
        let packed = BufReader::new(file.take(self.len));
        let mut image = Vec::new();
        let read = match self.format {
            Format::Gzip => GzDecoder::new(packed).take(most).read_to_end(&mut image),
            Format::Zstd => zstd::Decoder::with_buffer(packed)
                .and_then(|decoder| decoder.single_frame().take(most).read_to_end(&mut image)),
        };
        read.map_err(BootError::Unpack)?;
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_bomb_is_not_unpacked_beyond_the_limit() {
        let bomb = zstd::encode_all([0; 100_000].as_slice(), 1).unwrap();
        let packed = recognize(&bomb).unwrap().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bomb).unwrap();
        assert_eq!(packed.unpack(&mut file, 1000).unwrap().len(), 1000);
    }
}
