//! Kernels of arm64. An `Image` does not unpack itself: it is packed as a whole, by gzip or in any
//! other format, or in an EFI program that unpacks it (`CONFIG_EFI_ZBOOT`; Linux,
//! drivers/firmware/efi/libstub/zboot-header.S).

use super::extract::{ExtractError, unpack_start};
use super::{Compression, ImageError, u32_at};

/// Offsets in the header of an Image (Linux, Documentation/arch/arm64/booting.rst), and of such an
/// EFI program.
mod offset {
    pub(super) const MAGIC: usize = 56;
    pub(super) const ZBOOT: usize = 4;
    pub(super) const PAYLOAD_OFFSET: usize = 8;
    pub(super) const PAYLOAD_LENGTH: usize = 12;
    /// End of the header of an Image.
    pub(super) const END: usize = 64;
}

const MAGIC: &[u8] = b"ARM\x64";
const ZBOOT: &[u8] = b"zimg";

/// Whether an Image that is not packed begins with `start` (64 bytes are enough).
pub fn is_image(start: &[u8]) -> bool {
    start.get(offset::MAGIC..offset::MAGIC + MAGIC.len()) == Some(MAGIC)
}

/// A packed Image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedImage<'a>(&'a [u8]);

impl<'a> PackedImage<'a> {
    /// Finds the packed Image in `bytes`, which may be something else: `None`.
    ///
    /// # Errors
    /// If it is one that is not whole.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<PackedImage<'a>>, ImageError> {
        if bytes.get(offset::ZBOOT..offset::ZBOOT + ZBOOT.len()) == Some(ZBOOT)
            && bytes.starts_with(b"MZ")
            && bytes.len() >= offset::END
        {
            let start = u32_at(bytes, offset::PAYLOAD_OFFSET) as usize;
            let end = start.checked_add(u32_at(bytes, offset::PAYLOAD_LENGTH) as usize);
            let payload = end.and_then(|end| bytes.get(start..end));
            let payload = payload.ok_or(ImageError::Truncated("compressed kernel"))?;
            return Ok(Some(PackedImage(payload)));
        }
        let packed = Compression::of(bytes).is_some_and(|kind| kind != Compression::None);
        Ok(packed.then_some(PackedImage(bytes)))
    }

    /// Unpacks the Image.
    ///
    /// # Errors
    /// If the format is not known, the data are damaged, or what is in them is no Image.
    pub fn unpack(&self) -> Result<Vec<u8>, ExtractError> {
        let (image, _) = unpack_start(self.0)?;
        if is_image(&image) {
            Ok(image)
        } else {
            Err(ExtractError::NotImage)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn image() -> Vec<u8> {
        let mut bytes = vec![7; 4096];
        bytes[offset::MAGIC..][..4].copy_from_slice(MAGIC);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zboot(packed: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 80];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[offset::ZBOOT..][..4].copy_from_slice(ZBOOT);
        bytes[offset::PAYLOAD_OFFSET..][..4].copy_from_slice(&80_u32.to_le_bytes());
        bytes[offset::PAYLOAD_LENGTH..][..4].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        bytes.extend_from_slice(packed);
        bytes.extend_from_slice(b"sections of the program");
        bytes
    }

    #[test]
    fn images_are_unpacked_from_all_that_they_are_packed_in() {
        let image = image();
        let zstd = zstd::encode_all(image.as_slice(), 1).unwrap();
        for packed in [
            gzip(&image),
            zstd.clone(),
            zboot(&gzip(&image)),
            zboot(&zstd),
        ] {
            let found = PackedImage::parse(&packed).unwrap().unwrap();
            assert_eq!(found.unpack().unwrap(), image);
        }
        assert!(is_image(&image));
        assert_eq!(PackedImage::parse(&image).unwrap(), None);
    }

    #[test]
    fn other_files_and_damaged_ones_are_told_apart() {
        for other in [
            &b""[..],
            b"MZ",
            b"MZ\0\0zimg",
            b"\x7fELF\x02\x01",
            &[0x5a; 4096],
        ] {
            assert_eq!(PackedImage::parse(other).unwrap(), None);
            assert!(!is_image(other));
        }
        let mut cut = zboot(&gzip(&image()));
        cut.truncate(90);
        assert!(matches!(
            PackedImage::parse(&cut),
            Err(ImageError::Truncated(_))
        ));
        let mut far = zboot(b"");
        far[offset::PAYLOAD_OFFSET..][..8].fill(0xff);
        assert!(matches!(
            PackedImage::parse(&far),
            Err(ImageError::Truncated(_))
        ));
        let text = gzip(b"no kernel");
        let error = PackedImage::parse(&text)
            .unwrap()
            .unwrap()
            .unpack()
            .unwrap_err();
        assert!(matches!(error, ExtractError::NotImage), "{error}");
    }
}
