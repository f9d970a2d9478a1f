//! ELF files of kernels.

/// `XEN_ELFNOTE_PHYS32_ENTRY` (Xen, public/elfnote.h) of the vendor `Xen`: the kernel has an entry
/// point for 32-bit protected mode (PVH).
const PHYS32_ENTRY: u32 = 18;
const VENDOR: &[u8] = b"Xen\0";
/// `PT_NOTE` (elf(5)).
const NOTE: u32 = 4;
/// Lengths of a program header and of the file header in a 64-bit file, in bytes (elf(5)).
const PROGRAM_HEADER: usize = 56;
const HEADER: usize = 64;

/// Program headers that are looked at; kernels have less than ten.
const MAX_SEGMENTS: u16 = 64;
/// Bytes that are read of a segment of notes at most; kernels have less than one page.
const MAX_NOTES: u64 = 64 << 10;

/// Whether a 64-bit ELF kernel has the entry point that QEMU's `-kernel` needs (QEMU,
/// hw/i386/x86-common.c, `load_elfboot`). `read` returns as many bytes of the file as its second
/// argument says, from the offset in its first, or `None`.
pub fn has_pvh_entry(read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> bool {
    has_note(read).unwrap_or(false)
}

fn has_note(read: impl Fn(u64, usize) -> Option<Vec<u8>>) -> Option<bool> {
    let header = read(0, HEADER).filter(|header| header.starts_with(b"\x7fELF\x02\x01"))?;
    let first = u64_at(&header, 32)?;
    let (size, count) = (u16_at(&header, 54)?, u16_at(&header, 56)?.min(MAX_SEGMENTS));
    for number in 0..count {
        let start = first.checked_add(u64::from(number) * u64::from(size))?;
        let segment = read(start, PROGRAM_HEADER)?;
        if u32_at(&segment, 0)? != NOTE {
            continue;
        }
        let length = u64_at(&segment, 32)?.min(MAX_NOTES);
        let all = read(u64_at(&segment, 8)?, usize::try_from(length).ok()?)?;
        let mut notes = &all[..];
        // Elf64_Nhdr: sizes of name and description, type. Name and description are padded to four
        // bytes.
        while let (Some(name), Some(description), Some(kind)) =
            (u32_at(notes, 0), u32_at(notes, 4), u32_at(notes, 8))
        {
            let (name, description) = (name as usize, description as usize);
            if kind == PHYS32_ENTRY && notes.get(12..12 + name) == Some(VENDOR) {
                return Some(true);
            }
            let next = 12 + name.next_multiple_of(4) + description.next_multiple_of(4);
            notes = notes.get(next..).unwrap_or_default();
        }
    }
    Some(false)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(elf: &[u8]) -> bool {
        has_pvh_entry(|offset, length| {
            let start = usize::try_from(offset).ok()?;
            Some(elf.get(start..start.checked_add(length)?)?.to_vec())
        })
    }

    /// A kernel with one segment of notes.
    fn kernel(kind: u32, vendor: &[u8]) -> Vec<u8> {
        let mut elf = vec![0; HEADER + PROGRAM_HEADER];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[32] = 64;
        elf[54] = 56;
        elf[56] = 1;
        elf[HEADER] = 4;
        elf[HEADER + 8] = 120;
        elf[HEADER + 32] = 40;
        for (size, kind, name) in [(3, 1, &b"GNU\0"[..]), (4, kind, vendor)] {
            for word in [4, size, kind] {
                elf.extend_from_slice(&u32::to_le_bytes(word));
            }
            elf.extend_from_slice(name);
            elf.extend_from_slice(&[0; 4]);
        }
        elf
    }

    #[test]
    fn the_note_decides() {
        assert!(has(&kernel(18, b"Xen\0")));
        assert!(!has(&kernel(17, b"Xen\0")));
        assert!(!has(&kernel(18, b"Zen\0")));
    }

    #[test]
    fn a_truncated_file_has_none() {
        let whole = kernel(18, b"Xen\0");
        for cut in 0..whole.len() {
            assert!(!has(&whole[..cut]));
        }
        let mut wild = whole;
        wild[32..40].fill(0xff);
        assert!(!has(&wild));
    }
}
