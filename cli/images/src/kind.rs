//! What a file is, by what is in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use boxbuild_engine::qemu::image::DiskFormat;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A disk.
    Disk(DiskFormat),
    /// A disc; `stick` if it can be written to a USB stick as well.
    Iso { stick: bool },
    /// A file system without a boot loader.
    FileSystem(&'static str),
    /// Something compressed, by the name of the program.
    Compressed(&'static str),
    /// An archive of tar.
    Tar,
    /// An initial ramdisk or a root tree as cpio.
    Cpio,
    /// The description of a disk whose data is in other files.
    Extents,
    /// A kernel.
    Kernel,
    /// Nothing that is known.
    Unknown,
}

/// Bytes at the beginning that tell most kinds.
const HEAD: usize = 4096;
/// Where a disc has its first descriptor (ECMA-119, 8.1), and btrfs its superblock.
const DESCRIPTOR: u64 = 16 * 2048;
const BTRFS: u64 = 64 << 10;

/// First bytes, and what they mean.
const MAGIC: [(&[u8], Kind); 14] = [
    (b"QFI\xfb", Kind::Disk(DiskFormat::Qcow2)),
    // VMware, "Virtual Disk Format 5.0"
    (b"KDMV", Kind::Disk(DiskFormat::Vmdk)),
    (b"# Disk DescriptorFile", Kind::Extents),
    // MS-VHDX, 2.2.1
    (b"vhdxfile", Kind::Disk(DiskFormat::Vhdx)),
    // A dynamic one has its footer in front, too.
    (b"conectix", Kind::Disk(DiskFormat::Vhd)),
    (b"\x1f\x8b", Kind::Compressed("gzip")),
    (b"\xfd7zXZ\0", Kind::Compressed("xz")),
    (b"\x28\xb5\x2f\xfd", Kind::Compressed("zstd")),
    (b"BZh", Kind::Compressed("bzip2")),
    (b"hsqs", Kind::FileSystem("squashfs")),
    (b"XFSB", Kind::FileSystem("xfs")),
    (b"070701", Kind::Cpio),
    (b"070702", Kind::Cpio),
    (b"070707", Kind::Cpio),
];

/// Looks at a file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn of(file: &File) -> io::Result<Kind> {
    let length = file.metadata()?.len();
    let head = read(file, 0, HEAD)?;
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Ok(*kind);
    }
    let at = |place: usize, bytes: &[u8]| {
        head.get(place..)
            .is_some_and(|rest| rest.starts_with(bytes))
    };
    // VirtualBox, VDICore.h: the signature behind a text of 64 bytes.
    if at(64, &0xbeda_107f_u32.to_le_bytes()) {
        return Ok(Kind::Disk(DiskFormat::Vdi));
    }
    // Linux, Documentation/arch/x86/boot.rst and Documentation/arch/arm64/booting.rst
    if at(0x202, b"HdrS") || at(0x38, b"ARM\x64") {
        return Ok(Kind::Kernel);
    }
    if at(257, b"ustar") {
        return Ok(Kind::Tar);
    }
    let sector = at(510, &[0x55, 0xaa]);
    if read(file, DESCRIPTOR, 6)?.get(1..) == Some(b"CD001") {
        return Ok(Kind::Iso { stick: sector });
    }
    // A fixed disk of Virtual PC ends with its footer ("Virtual Hard Disk Image Format Specification").
    if length > 512 && read(file, length - 512, 8)? == b"conectix" {
        return Ok(Kind::Disk(DiskFormat::Vhd));
    }
    // In front of the partition table's own signature, FAT has the same one.
    if at(1024 + 56, &[0x53, 0xef]) && !sector {
        return Ok(Kind::FileSystem("ext4"));
    }
    if at(1024, &0xe0f5_e1e2_u32.to_le_bytes()) {
        return Ok(Kind::FileSystem("erofs"));
    }
    if read(file, BTRFS + 64, 8)? == b"_BHRfS_M" && !sector {
        return Ok(Kind::FileSystem("btrfs"));
    }
    if sector || at(512, b"EFI PART") {
        return Ok(Kind::Disk(DiskFormat::Raw));
    }
    Ok(Kind::Unknown)
}

fn read(file: &File, place: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        match file.read_at(&mut bytes[done..], place + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// How a disk or disc can be started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Starts {
    /// It has a program for a BIOS.
    pub(crate) bios: bool,
    /// It has a place for those of UEFI.
    pub(crate) uefi: bool,
}

/// Bytes of a disk that have its partition tables, of 512 and of 4096 bytes a sector.
pub(crate) const TABLES: u64 = 24 << 10;

/// Looks at the first bytes of a disk.
pub(crate) fn starts_of_disk(head: &[u8]) -> Starts {
    /// The type of an EFI system partition in a DOS table, and in a GPT as it stands there (UEFI,
    /// 5.2.2 and 5.3.3).
    const EFI: u8 = 0xef;
    const EFI_GUID: [u8; 16] = *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
    let boot_sector = head.get(510..512) == Some(&[0x55, 0xaa]);
    let code = head.get(..440).unwrap_or_default();
    let in_table = (0..4).any(|number| head.get(446 + 16 * number + 4) == Some(&EFI));
    let in_gpt = [512, 4096].into_iter().any(|sector: usize| {
        let header = head.get(sector..).unwrap_or_default();
        let entries = head.get(2 * sector..).unwrap_or_default();
        header.starts_with(b"EFI PART")
            && entries
                .chunks(128)
                .take(128)
                .any(|entry| entry.starts_with(&EFI_GUID))
    });
    Starts {
        bios: boot_sector && code.iter().any(|byte| *byte != 0),
        uefi: boot_sector && in_table || in_gpt,
    }
}

/// Returns the name of a disc's volume (ECMA-119, 8.4.6).
///
/// # Errors
/// If it cannot be read.
pub(crate) fn volume_of_disc(disc: &File) -> io::Result<String> {
    let name = read(disc, DESCRIPTOR + 40, 32)?;
    let name = String::from_utf8_lossy(&name);
    Ok(name.trim_end_matches([' ', '\0']).to_owned())
}

/// Looks at the boot catalogue of a disc ("El Torito" Bootable CD-ROM Format Specification 1.0).
///
/// # Errors
/// If it cannot be read.
pub(crate) fn starts_of_disc(disc: &File) -> io::Result<Starts> {
    const SECTOR: u64 = 2048;
    /// Platforms: that of a BIOS, and UEFI (UEFI, 13.3.2.1).
    const BIOS: u8 = 0;
    const UEFI: u8 = 0xef;
    let mut starts = Starts::default();
    let record = read(disc, 17 * SECTOR, SECTOR as usize)?;
    if record.get(7..30) != Some(b"EL TORITO SPECIFICATION") {
        return Ok(starts);
    }
    let place = record.get(0x47..).and_then(|rest| rest.first_chunk());
    let place = u32::from_le_bytes(*place.unwrap_or(&[0; 4]));
    let catalogue = read(disc, u64::from(place) * SECTOR, SECTOR as usize)?;
    for (number, entry) in catalogue.chunks_exact(32).enumerate() {
        // The first is the validation entry; others are headers of sections.
        let is_header =
            number == 0 && entry[0] == 1 || number > 0 && matches!(entry[0], 0x90 | 0x91);
        if is_header {
            starts.bios |= entry[1] == BIOS;
            starts.uefi |= entry[1] == UEFI;
        }
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn of_bytes(parts: &[(usize, &[u8])], length: usize) -> Kind {
        let mut bytes = vec![0; length];
        for (place, part) in parts {
            bytes[*place..*place + part.len()].copy_from_slice(part);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        of(&file).unwrap()
    }

    #[test]
    fn files_are_known_by_their_bytes() {
        const SIGNATURE: (usize, &[u8]) = (510, &[0x55, 0xaa]);
        let raw = Kind::Disk(DiskFormat::Raw);
        for (parts, wanted) in [
            (vec![(0, &b"QFI\xfb"[..])], Kind::Disk(DiskFormat::Qcow2)),
            (
                vec![(64, &[0x7f, 0x10, 0xda, 0xbe][..])],
                Kind::Disk(DiskFormat::Vdi),
            ),
            (
                vec![SIGNATURE, (99_488, &b"conectix"[..])],
                Kind::Disk(DiskFormat::Vhd),
            ),
            (vec![(32769, &b"CD001"[..])], Kind::Iso { stick: false }),
            (
                vec![SIGNATURE, (32769, &b"CD001"[..])],
                Kind::Iso { stick: true },
            ),
            (vec![SIGNATURE], raw),
            (vec![(512, &b"EFI PART"[..])], raw),
            (vec![(257, &b"ustar"[..])], Kind::Tar),
            (vec![(1080, &[0x53, 0xef][..])], Kind::FileSystem("ext4")),
            (vec![SIGNATURE, (1080, &[0x53, 0xef][..])], raw),
            (vec![SIGNATURE, (0x202, &b"HdrS"[..])], Kind::Kernel),
            (vec![], Kind::Unknown),
        ] {
            assert_eq!(of_bytes(&parts, 100_000), wanted, "{parts:?}");
        }
        assert_eq!(of_bytes(&[], 0), Kind::Unknown);
        assert_eq!(of_bytes(&[(0, b"BZh")], 3), Kind::Compressed("bzip2"));
    }

    #[test]
    fn a_disk_tells_how_it_starts() {
        let mut head = vec![0; TABLES as usize];
        assert_eq!(starts_of_disk(&head), Starts::default());
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(
            starts_of_disk(&head),
            Starts::default(),
            "a table alone starts nothing"
        );
        head[0] = 0xeb;
        assert_eq!(
            starts_of_disk(&head),
            Starts {
                bios: true,
                uefi: false
            }
        );
        head[512..520].copy_from_slice(b"EFI PART");
        head[1024 + 128..1024 + 144]
            .copy_from_slice(b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b");
        assert_eq!(
            starts_of_disk(&head),
            Starts {
                bios: true,
                uefi: true
            }
        );
        assert_eq!(
            starts_of_disk(&head[..600]),
            Starts {
                bios: true,
                uefi: false
            }
        );
        let mut dos = vec![0; 512];
        dos[510..512].copy_from_slice(&[0x55, 0xaa]);
        dos[446 + 4] = 0xef;
        assert_eq!(
            starts_of_disk(&dos),
            Starts {
                bios: false,
                uefi: true
            }
        );
    }

    #[test]
    fn a_disc_tells_how_it_starts() {
        let mut bytes = vec![0; 20 * 2048];
        bytes[17 * 2048 + 7..17 * 2048 + 30].copy_from_slice(b"EL TORITO SPECIFICATION");
        bytes[17 * 2048 + 0x47] = 19;
        bytes[19 * 2048] = 1;
        bytes[19 * 2048 + 64..19 * 2048 + 66].copy_from_slice(&[0x91, 0xef]);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        assert_eq!(
            starts_of_disc(&file).unwrap(),
            Starts {
                bios: true,
                uefi: true
            }
        );
        file.write_at(&[b' '; 32], 16 * 2048 + 40).unwrap();
        file.write_at(b"INSTALL", 16 * 2048 + 40).unwrap();
        assert_eq!(volume_of_disc(&file).unwrap(), "INSTALL");
        // A catalogue that is not on the disc.
        file.write_at(&[0xff; 4], 17 * 2048 + 0x47).unwrap();
        assert_eq!(starts_of_disc(&file).unwrap(), Starts::default());
    }
}
