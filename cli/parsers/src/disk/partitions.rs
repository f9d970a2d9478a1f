//! Partition tables of a disk.

use std::io;

use boxbuild_vmm::disk::Image;

/// Bytes of the sectors with the partition tables: the first, and 33 of a GPT.
const TABLES: usize = 34 * 512;

/// Returns the numbers of the partitions of a disk that have a Linux file system.
pub(super) fn linux(image: &Image) -> io::Result<Vec<usize>> {
    if image.len() < TABLES as u64 {
        return Ok(Vec::new());
    }
    let mut tables = vec![0; TABLES];
    image.read_at(0, &mut tables)?;
    Ok(linux_partitions(&tables))
}

/// Returns the numbers of the partitions with a Linux file system (type 0x83 of a DOS partition
/// table; "Linux filesystem" and the root types of the discoverable partitions specification in a
/// GPT).
fn linux_partitions(table: &[u8]) -> Vec<usize> {
    const LINUX: u8 = 0x83;
    const PROTECTIVE: u8 = 0xee;
    /// Type GUIDs as they stand in the table: Linux file system, root of x86-64, of arm64.
    const TYPES: [[u8; 16]; 3] = [
        *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4",
        *b"\xe3\xbc\x68\x4f\xcd\xe8\xb1\x4d\x96\xe7\xfb\xca\xf9\x84\xb7\x09",
        *b"\x45\xb0\x21\xb9\xf0\x1d\xc3\x41\xaf\x44\x4c\x6f\x28\x0d\x3f\xae",
    ];
    if table.len() < TABLES || table[510..512] != [0x55, 0xaa] {
        return Vec::new();
    }
    let kinds: Vec<u8> = (0..4).map(|number| table[446 + 16 * number + 4]).collect();
    if !kinds.contains(&PROTECTIVE) {
        return (1..=4)
            .filter(|number| kinds[number - 1] == LINUX)
            .collect();
    }
    // The entries of a GPT begin in sector 2 (UEFI, 5.3.3), 128 bytes each as all tools make them.
    table[1024..]
        .chunks_exact(128)
        .enumerate()
        .filter(|(_, entry)| TYPES.iter().any(|kind| entry[..16] == *kind))
        .map(|(index, _)| index + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linux_partitions_are_found_in_both_tables() {
        assert!(linux_partitions(&[0; 34 * 512]).is_empty());
        assert!(linux_partitions(b"short").is_empty());
        let mut dos = vec![0; 34 * 512];
        dos[510..512].copy_from_slice(&[0x55, 0xaa]);
        dos[446 + 4] = 0xef;
        dos[446 + 16 + 4] = 0x83;
        assert_eq!(linux_partitions(&dos), [2]);
        let mut gpt = dos.clone();
        gpt[446 + 4] = 0xee;
        let linux = b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";
        gpt[1024 + 256..1024 + 272].copy_from_slice(linux);
        assert_eq!(linux_partitions(&gpt), [3]);
    }
}
