//! Runs the body of a fuzz target over its seeds in `tests/fuzz/corpus`, and over mutations of them
//! that are the same in each run (docs/fuzzing.md). For tests only.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a seed that cannot be read fails the test that needs it"
)]

use std::path::{Path, PathBuf};

/// Longest input, in bytes, as in `tests/fuzz/run`.
const MAX_LEN: usize = 8192;

/// Calls `body` with each seed of `target`, and with about `mutations` mutations of them in all.
///
/// # Panics
/// If there are no seeds, or `body` panics.
pub fn replay(target: &str, body: fn(&[u8]), mutations: usize) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    let seeds = seeds(&corpus);
    let mut random = Random(1);
    for path in &seeds {
        let seed = std::fs::read(path).unwrap();
        body(&seed);
        for _ in 0..mutations / seeds.len() {
            let mut data = seed.clone();
            mutate(&mut data, &mut random);
            body(&data);
        }
    }
}

fn seeds(corpus: &Path) -> Vec<PathBuf> {
    let mut seeds: Vec<_> = std::fs::read_dir(corpus)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no corpus in {}", corpus.display());
    seeds
}

/// A linear congruential generator (Knuth, The Art of Computer Programming, volume 2, 3.3.4, table 1,
/// line 26).
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        let (a, c) = (6_364_136_223_846_793_005, 1_442_695_040_888_963_407);
        self.0 = self.0.wrapping_mul(a).wrapping_add(c);
        (self.0 >> 33) as usize
    }

    fn below(&mut self, limit: usize) -> usize {
        self.next() % limit.max(1)
    }
}

fn mutate(data: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(8) {
        let at = random.below(data.len());
        match random.below(6) {
            0 => data.insert(at, random.next() as u8),
            1 if !data.is_empty() => {
                data.remove(at);
            }
            2 => data.extend_from_within(at..),
            3 => data.truncate(at + 1),
            _ => {
                let interesting = [0, 1, 2, 0x7f, 0x80, 0xff, random.next() as u8];
                if let Some(byte) = data.get_mut(at) {
                    *byte = interesting[random.below(interesting.len())];
                }
            }
        }
    }
    data.truncate(MAX_LEN);
}
