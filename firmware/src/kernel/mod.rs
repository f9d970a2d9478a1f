//! Kernel images as distributions ship them.

pub mod arm64;
mod elf;
mod extract;
mod lzo1x;

use std::ops::Range;

pub use elf::has_pvh_entry;
pub(crate) use extract::unpack_at_most;
pub use extract::{Compression, ExtractError, unpack_start};

/// Offsets of the x86 boot header's fields (Linux, Documentation/arch/x86/boot.rst, "The Real-Mode
/// Kernel Header").
mod offset {
    pub(super) const SETUP_SECTS: usize = 0x1f1;
    pub(super) const BOOT_FLAG: usize = 0x1fe;
    pub(super) const MAGIC: usize = 0x202;
    pub(super) const VERSION: usize = 0x206;
    pub(super) const INITRD_ADDR_MAX: usize = 0x22c;
    pub(super) const XLOADFLAGS: usize = 0x236;
    pub(super) const CMDLINE_SIZE: usize = 0x238;
    pub(super) const PAYLOAD_OFFSET: usize = 0x248;
    pub(super) const PAYLOAD_LENGTH: usize = 0x24c;
    pub(super) const PREF_ADDRESS: usize = 0x258;
    pub(super) const INIT_SIZE: usize = 0x260;
    /// End of the last field that is read here.
    pub(super) const END: usize = 0x264;
}

/// `boot_flag`.
const BOOT_FLAG: u16 = 0xaa55;
/// `header`.
const MAGIC: &[u8] = b"HdrS";
/// Protocol 2.12 (Linux 3.8) introduced `xloadflags`, which tell whether there is a 64-bit entry
/// point.
const OLDEST_PROTOCOL: u16 = 0x020c;
/// `XLF_KERNEL_64`: the protected-mode code has an entry point for long mode at 0x200.
const XLF_KERNEL_64: u16 = 1 << 0;
/// `XLF_CAN_BE_LOADED_ABOVE_4G`.
const XLF_ABOVE_4G: u16 = 1 << 1;
/// `setup_sects` 0 means 4.
const DEFAULT_SETUP_SECTS: usize = 4;
const SECTOR: usize = 512;

/// A file that is not a kernel image that can be booted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// It lacks the header of the x86 boot protocol.
    #[error("not an x86 kernel image (bzImage)")]
    NoHeader,
    /// Older than Linux 3.8, or 32-bit.
    #[error("a kernel of boot protocol {}.{:02}; 64-bit kernels from Linux 3.8 on are supported", .0 >> 8, .0 & 0xff)]
    TooOld(u16),
    /// The header refers to parts that lie outside of the file.
    #[error("the kernel image is cut off or damaged: its {0} lies outside of the file")]
    Truncated(&'static str),
}

/// A complete bzImage.
#[derive(Debug, Clone)]
pub struct BzImage<'a> {
    bytes: &'a [u8],
    setup_end: usize,
    payload: Range<usize>,
}

impl<'a> BzImage<'a> {
    /// Reads the header.
    ///
    /// # Errors
    /// If `bytes` are not a 64-bit bzImage, or not all of one.
    pub fn parse(bytes: &'a [u8]) -> Result<BzImage<'a>, ImageError> {
        if bytes.len() < offset::END
            || u16_at(bytes, offset::BOOT_FLAG) != BOOT_FLAG
            || &bytes[offset::MAGIC..offset::MAGIC + MAGIC.len()] != MAGIC
        {
            return Err(ImageError::NoHeader);
        }
        let version = u16_at(bytes, offset::VERSION);
        if version < OLDEST_PROTOCOL || u16_at(bytes, offset::XLOADFLAGS) & XLF_KERNEL_64 == 0 {
            return Err(ImageError::TooOld(version));
        }
        let sectors = match usize::from(bytes[offset::SETUP_SECTS]) {
            0 => DEFAULT_SETUP_SECTS,
            sectors => sectors,
        };
        // The boot sector comes before the set-up sectors.
        let setup_end = (sectors + 1) * SECTOR;
        if setup_end >= bytes.len() {
            return Err(ImageError::Truncated("protected-mode code"));
        }
        let start = setup_end as u64 + u64::from(u32_at(bytes, offset::PAYLOAD_OFFSET));
        let end = start + u64::from(u32_at(bytes, offset::PAYLOAD_LENGTH));
        if end > bytes.len() as u64 || start == end {
            return Err(ImageError::Truncated("compressed kernel"));
        }
        Ok(BzImage {
            bytes,
            setup_end,
            payload: start as usize..end as usize,
        })
    }

    /// The set-up header, to be copied to offset 0x1f1 of the zero page. The jump at 0x200 tells its
    /// length (boot.rst, "64-bit Boot Protocol").
    pub fn setup_header(&self) -> &'a [u8] {
        let end = 0x202 + usize::from(self.bytes[0x201]);
        &self.bytes[offset::SETUP_SECTS..end.min(self.setup_end)]
    }

    /// The protected-mode code, which is loaded: the decompressor with the compressed kernel in it.
    pub fn protected_mode(&self) -> &'a [u8] {
        &self.bytes[self.setup_end..]
    }

    /// The compressed kernel, an ELF file.
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[self.payload.clone()]
    }

    /// Physical address at which the kernel prefers to be loaded.
    pub fn preferred_address(&self) -> u64 {
        u64::from(u32_at(self.bytes, offset::PREF_ADDRESS))
            | u64::from(u32_at(self.bytes, offset::PREF_ADDRESS + 4)) << 32
    }

    /// Bytes from the load address on that the kernel uses before it reads its memory map.
    pub fn init_size(&self) -> u32 {
        u32_at(self.bytes, offset::INIT_SIZE)
    }

    /// Highest address that the last byte of the initial ramdisk may have.
    pub fn initrd_limit(&self) -> u64 {
        if u16_at(self.bytes, offset::XLOADFLAGS) & XLF_ABOVE_4G != 0 {
            u64::MAX
        } else {
            u64::from(u32_at(self.bytes, offset::INITRD_ADDR_MAX))
        }
    }

    /// Longest command line in bytes, without its NUL.
    pub fn cmdline_limit(&self) -> u32 {
        u32_at(self.bytes, offset::CMDLINE_SIZE)
    }

    /// How the kernel is compressed, if the format is known.
    pub fn compression(&self) -> Option<Compression> {
        Compression::of(self.payload())
    }

    /// Decompresses the kernel to an ELF file (`vmlinux`), which boots without decompressing itself
    /// in the guest.
    ///
    /// # Errors
    /// If the format is not known, or the data are damaged.
    pub fn vmlinux(&self) -> Result<Vec<u8>, ExtractError> {
        extract::vmlinux(self.payload())
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A bzImage around a payload.
    pub(crate) fn image(payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 2 * SECTOR + 0x100];
        bytes[offset::SETUP_SECTS] = 1;
        bytes[offset::BOOT_FLAG..][..2].copy_from_slice(&BOOT_FLAG.to_le_bytes());
        bytes[0x201] = 0x66;
        bytes[offset::MAGIC..][..4].copy_from_slice(MAGIC);
        bytes[offset::VERSION..][..2].copy_from_slice(&0x020f_u16.to_le_bytes());
        bytes[offset::XLOADFLAGS] = 3;
        bytes[offset::PAYLOAD_OFFSET..][..4].copy_from_slice(&0x100_u32.to_le_bytes());
        bytes[offset::PAYLOAD_LENGTH..][..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_whole_image() {
        let bytes = image(b"payload");
        let image = BzImage::parse(&bytes).unwrap();
        assert_eq!(image.payload(), b"payload");
        assert_eq!(image.protected_mode().len(), 0x107);
        assert_eq!(image.setup_header().len(), 0x268 - 0x1f1);
        assert_eq!(image.initrd_limit(), u64::MAX);
        assert_eq!(image.compression(), None);
    }

    #[test]
    fn other_files_are_refused() {
        let good = image(b"payload");
        let refused = |bytes: &[u8]| BzImage::parse(bytes).unwrap_err();
        assert_eq!(refused(b""), ImageError::NoHeader);
        assert_eq!(refused(&[0x5a; 4096]), ImageError::NoHeader);
        for cut in 0..good.len() {
            refused(&good[..cut]);
        }
        let mut old = good.clone();
        old[offset::VERSION] = 0x0b;
        assert!(refused(&old).to_string().contains("2.11"));
        let mut bits_32 = good.clone();
        bits_32[offset::XLOADFLAGS] = 0;
        assert_eq!(refused(&bits_32), ImageError::TooOld(0x020f));
        let mut huge = good;
        huge[offset::PAYLOAD_LENGTH..][..4].fill(0xff);
        assert_eq!(refused(&huge), ImageError::Truncated("compressed kernel"));
    }
}
