//! Partition tables, for `root=PARTUUID=` and `root=PARTLABEL=`.

use crate::superblock::uuid_text;

/// Bytes that [`entry`] needs from the start of a disk: a GPT of 128 entries with sectors of 4096
/// bytes.
pub const PROBE_LENGTH: usize = 6 * 4096;

/// A partition's entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Partition {
    /// Offset on the disk, in bytes; 0 if the table does not tell (DOS, logical partitions).
    pub start: u64,
    /// Unique identifier, in lower case.
    pub uuid: String,
    /// Name; DOS tables have none.
    pub label: String,
}

/// The entry of partition `number`, from 1, in the table at the start of a disk. `None` if there is
/// no such entry, or it lies outside of `disk`.
///
/// GPT: UEFI specification, section 5.3 (header in the second sector, entries of 128 bytes or
/// more). DOS: the identifier is the disk's signature at 440 and the number, as in the kernel
/// (block/partitions/msdos.c).
pub fn entry(disk: &[u8], number: u32) -> Option<Partition> {
    [512, 4096]
        .into_iter()
        .find(|sector| disk.get(*sector..*sector + 8) == Some(b"EFI PART"))
        .map_or_else(|| dos(disk, number), |sector| gpt(disk, sector, number))
}

fn gpt(disk: &[u8], sector: usize, number: u32) -> Option<Partition> {
    let header = disk.get(sector..sector + 92)?;
    let first = usize::try_from(u64::from_le_bytes(header[72..80].try_into().ok()?)).ok()?;
    let count = u32::from_le_bytes(header[80..84].try_into().ok()?);
    let size = u32::from_le_bytes(header[84..88].try_into().ok()?) as usize;
    if number == 0 || number > count || size < 128 {
        return None;
    }
    let start = first
        .checked_mul(sector)?
        .checked_add((number as usize - 1).checked_mul(size)?)?;
    let entry = disk.get(start..start.checked_add(128)?)?;
    // The first three fields of a GUID are little-endian.
    let mut uuid: [u8; 16] = entry[16..32].try_into().ok()?;
    uuid[..4].reverse();
    uuid[4..6].reverse();
    uuid[6..8].reverse();
    let name = entry[56..128]
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0);
    let block = u64::from_le_bytes(entry[32..40].try_into().ok()?);
    Some(Partition {
        start: block.checked_mul(sector as u64)?,
        uuid: uuid_text(&uuid),
        label: char::decode_utf16(name)
            .map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
    })
}

fn dos(disk: &[u8], number: u32) -> Option<Partition> {
    if disk.get(510..512)? != [0x55, 0xaa] || number == 0 {
        return None;
    }
    let signature = u32::from_le_bytes(disk[440..444].try_into().ok()?);
    // Four entries of 16 bytes at 446, each with its first sector at 8.
    let block = match number {
        1..=4 => {
            let at = 446 + 16 * (number as usize - 1) + 8;
            u32::from_le_bytes(disk[at..at + 4].try_into().ok()?)
        }
        _ => 0,
    };
    Some(Partition {
        start: u64::from(block) * 512,
        uuid: format!("{signature:08x}-{number:02x}"),
        label: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpt_names_its_partitions() {
        for sector in [512, 4096] {
            let mut disk = vec![0; PROBE_LENGTH];
            disk[sector..sector + 8].copy_from_slice(b"EFI PART");
            disk[sector + 72] = 2;
            disk[sector + 80] = 4;
            disk[sector + 84] = 128;
            let second = 2 * sector + 128;
            for byte in 0..16 {
                disk[second + 16 + byte] = u8::try_from(byte).unwrap();
            }
            disk[second + 33] = 8;
            disk[second + 56] = b'p';
            disk[second + 58] = b'2';
            assert_eq!(
                entry(&disk, 2),
                Some(Partition {
                    start: 2048 * sector as u64,
                    uuid: "03020100-0504-0706-0809-0a0b0c0d0e0f".into(),
                    label: "p2".into()
                })
            );
            assert_eq!(entry(&disk, 5), None);
            assert_eq!(entry(&disk, 0), None);
            disk[sector + 79] = 0xff;
            assert_eq!(entry(&disk, 2), None);
        }
    }

    #[test]
    fn a_dos_table_numbers_them() {
        let mut disk = vec![0; PROBE_LENGTH];
        assert_eq!(entry(&disk, 1), None);
        disk[440..444].copy_from_slice(&[0x78, 0x56, 0x34, 0x12]);
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[446 + 16 + 9] = 8;
        assert_eq!(entry(&disk, 2).map(|entry| entry.start), Some(1 << 20));
        assert_eq!(entry(&disk, 5).map(|entry| entry.start), Some(0));
        assert_eq!(
            entry(&disk, 1).map(|entry| entry.uuid),
            Some("12345678-01".into())
        );
        assert_eq!(entry(&disk[..100], 1), None);
    }
}
