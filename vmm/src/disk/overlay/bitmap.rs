//! The bitmap of an overlay: which blocks it has.

use std::io::{self, Read, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of one chunk, which stands for 128 MiB of 4 KiB blocks and takes a page.
const WORDS: usize = 512;
/// Blocks of one chunk.
const PART: u64 = WORDS as u64 * 64;

type Chunk = Box<[AtomicU64]>;

/// One bit for each block. A chunk without any bit takes no memory: disks of boxes have up to
/// 500 GB, of which a build uses little.
#[derive(Debug)]
pub(super) struct Bitmap(Box<[OnceLock<Chunk>]>);

impl Bitmap {
    /// All bits are clear.
    pub(super) fn new(blocks: u64) -> Bitmap {
        let parts = 0..blocks.div_ceil(PART);
        Bitmap(parts.map(|_| OnceLock::new()).collect())
    }

    fn chunk(&self, block: u64) -> Option<&Chunk> {
        self.0.get((block / PART) as usize)?.get()
    }

    fn word(chunk: &Chunk, block: u64) -> &AtomicU64 {
        &chunk[(block % PART / 64) as usize]
    }

    pub(super) fn get(&self, block: u64) -> bool {
        let word = |chunk| Self::word(chunk, block).load(Ordering::Acquire);
        self.chunk(block)
            .is_some_and(|chunk| word(chunk) >> (block % 64) & 1 == 1)
    }

    /// How many blocks from `first` on, at most up to `end`, have the same bit as it.
    pub(super) fn run(&self, first: u64, end: u64) -> (bool, u64) {
        let value = self.get(first);
        let mut block = first + 1;
        while block < end {
            let Some(chunk) = self.chunk(block) else {
                if value {
                    break;
                }
                block = (block / PART + 1) * PART;
                continue;
            };
            // The bits that differ, from `block` on.
            let word = Self::word(chunk, block).load(Ordering::Acquire);
            let differs = if value { !word } else { word } >> (block % 64);
            if differs != 0 {
                block += u64::from(differs.trailing_zeros());
                break;
            }
            block = (block / 64 + 1) * 64;
        }
        (value, block.min(end) - first)
    }

    /// Writes the chunks that have bits: for each its number and its words, all little-endian.
    pub(super) fn save(&self, out: &mut impl Write) -> io::Result<()> {
        for (number, chunk) in self.0.iter().enumerate() {
            let Some(chunk) = chunk.get() else { continue };
            out.write_all(&(number as u64).to_le_bytes())?;
            for word in chunk {
                out.write_all(&word.load(Ordering::Acquire).to_le_bytes())?;
            }
        }
        Ok(())
    }

    /// The bits of a disk of `blocks` blocks that [`save`](Self::save) wrote.
    pub(super) fn load(blocks: u64, input: &mut impl Read) -> io::Result<Bitmap> {
        let bitmap = Bitmap::new(blocks);
        let mut number = [0; 8];
        let mut words = [0; WORDS * 8];
        loop {
            // The end may only come between two parts.
            if input.read(&mut number[..1])? == 0 {
                return Ok(bitmap);
            }
            input.read_exact(&mut number[1..])?;
            input.read_exact(&mut words)?;
            let slot = usize::try_from(u64::from_le_bytes(number))
                .ok()
                .and_then(|number| bitmap.0.get(number));
            let chunk = words.chunks_exact(8).map(|word| {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(word);
                AtomicU64::new(u64::from_le_bytes(bytes))
            });
            if slot.is_none_or(|slot| slot.set(chunk.collect()).is_err()) {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// Sets the bits from `first` up to `end`. A thread that sees a bit sees the data.
    pub(super) fn set(&self, first: u64, end: u64) {
        let mut block = first;
        while block < end {
            let Some(slot) = self.0.get((block / PART) as usize) else {
                return;
            };
            let chunk = slot.get_or_init(|| (0..WORDS).map(|_| AtomicU64::new(0)).collect());
            let bit = block % 64;
            let count = (64 - bit).min(end - block);
            let mask = (u64::MAX >> (64 - count)) << bit;
            Self::word(chunk, block).fetch_or(mask, Ordering::Release);
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

    /// Where words and chunks begin and end, and their neighbours.
    fn edges() -> Vec<u64> {
        let ends = [0, 64, 128, PART - 64, PART, PART + 64, 2 * PART];
        let mut edges: Vec<u64> = ends
            .iter()
            .flat_map(|end| [end.saturating_sub(1), *end, end + 1])
            .filter(|edge| *edge <= 2 * PART)
            .collect();
        edges.dedup();
        edges
    }

    /// What `run` must return, from the ranges that are set.
    fn expected(set: &[(u64, u64)], first: u64, end: u64) -> (bool, u64) {
        let at = |block| set.iter().any(|(from, to)| (*from..*to).contains(&block));
        let value = at(first);
        // It can only change where a range begins or ends.
        let mut changes: Vec<u64> = set.iter().flat_map(|(from, to)| [*from, *to]).collect();
        changes.sort_unstable();
        let change = changes
            .into_iter()
            .find(|change| *change > first && *change < end && at(*change) != value);
        (value, change.unwrap_or(end) - first)
    }

    #[test]
    fn two_ranges_between_any_edges_are_seen_from_all_edges() {
        let edges = edges();
        let ranges: Vec<(u64, u64)> = edges
            .iter()
            .flat_map(|from| edges.iter().map(|to| (*from, *to)))
            .filter(|(from, to)| from < to)
            .collect();
        let blocks = 2 * PART;
        for (index, one) in ranges.iter().enumerate() {
            for other in ranges.iter().skip(index).step_by(7) {
                let set = [*one, *other];
                let bitmap = Bitmap::new(blocks);
                for (from, to) in set {
                    bitmap.set(from, to);
                }
                for first in edges.iter().filter(|first| **first < blocks) {
                    for end in [first + 1, first + 65, blocks] {
                        let end = end.min(blocks);
                        let run = bitmap.run(*first, end);
                        assert_eq!(run, expected(&set, *first, end), "{set:?} {first} {end}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let bitmap = Bitmap::new(3 * PART);
        bitmap.set(PART - 3, PART + 70);
        let mut saved = Vec::new();
        bitmap.save(&mut saved).unwrap();
        let loaded = Bitmap::load(3 * PART, &mut &saved[..]).unwrap();
        assert_eq!(loaded.run(0, 3 * PART), (false, PART - 3));
        assert_eq!(loaded.run(PART - 3, 3 * PART), (true, 73));
        assert_eq!(loaded.run(PART + 70, 3 * PART), (false, 2 * PART - 70));
        for bad in [&saved[..saved.len() - 1], &saved[..3], &saved.repeat(2)] {
            assert!(Bitmap::load(3 * PART, &mut &bad[..]).is_err());
        }
        assert!(Bitmap::load(PART, &mut &saved[..]).is_err());
    }
}
