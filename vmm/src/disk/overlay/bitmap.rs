//! Which blocks an overlay has.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of one part, which stands for 128 MiB of 4 KiB blocks and takes a page.
const WORDS: usize = 512;
/// Blocks of one part.
const PART: u64 = WORDS as u64 * 64;

type Part = Box<[AtomicU64]>;

/// One bit for each block. A part without any bit takes no memory: disks of boxes have up to
/// 500 GB, of which a build uses little.
#[derive(Debug)]
pub(super) struct Bitmap(Box<[OnceLock<Part>]>);

impl Bitmap {
    /// All bits are clear.
    pub(super) fn new(blocks: u64) -> Bitmap {
        let parts = 0..blocks.div_ceil(PART);
        Bitmap(parts.map(|_| OnceLock::new()).collect())
    }

    fn part(&self, block: u64) -> Option<&Part> {
        self.0.get((block / PART) as usize)?.get()
    }

    fn word(part: &Part, block: u64) -> &AtomicU64 {
        &part[(block % PART / 64) as usize]
    }

    pub(super) fn get(&self, block: u64) -> bool {
        let word = |part| Self::word(part, block).load(Ordering::Acquire);
        self.part(block)
            .is_some_and(|part| word(part) >> (block % 64) & 1 == 1)
    }

    /// How many blocks from `first` on, at most up to `end`, have the same bit as it.
    pub(super) fn run(&self, first: u64, end: u64) -> (bool, u64) {
        let value = self.get(first);
        let mut block = first + 1;
        while block < end {
            let Some(part) = self.part(block) else {
                if value {
                    break;
                }
                block = (block / PART + 1) * PART;
                continue;
            };
            // The bits that differ, from `block` on.
            let word = Self::word(part, block).load(Ordering::Acquire);
            let differs = if value { !word } else { word } >> (block % 64);
            if differs != 0 {
                block += u64::from(differs.trailing_zeros());
                break;
            }
            block = (block / 64 + 1) * 64;
        }
        (value, block.min(end) - first)
    }

    /// Sets the bits from `first` up to `end`. Who sees a bit sees the data.
    pub(super) fn set(&self, first: u64, end: u64) {
        let mut block = first;
        while block < end {
            let Some(slot) = self.0.get((block / PART) as usize) else {
                return;
            };
            let part = slot.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
            let bit = block % 64;
            let count = (64 - bit).min(end - block);
            let mask = (u64::MAX >> (64 - count)) << bit;
            Self::word(part, block).fetch_or(mask, Ordering::Release);
            block += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_bits_change() {
        let bitmap = Bitmap::new(3 * PART);
        assert_eq!(bitmap.run(0, 3 * PART), (false, 3 * PART));
        bitmap.set(PART - 3, PART + 70);
        for (first, expected) in [
            (0, (false, PART - 3)),
            (PART - 10, (false, 7)),
            (PART - 3, (true, 73)),
            (PART + 69, (true, 1)),
            (PART + 70, (false, 2 * PART - 70)),
        ] {
            assert_eq!(bitmap.run(first, 3 * PART), expected, "{first}");
        }
        assert_eq!(bitmap.run(PART, PART + 5), (true, 5));
    }
}
