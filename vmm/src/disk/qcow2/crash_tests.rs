//! A process that writes an image is killed at any instant.
//!
//! Which step does what follows from the seed alone, so that the parent knows what each sector
//! may hold: what the last flushed step left in it, or what a later one wrote.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::tests::{LEN, assert_clean, content, image, open, read, write};
use crate::disk::{Disk, SECTOR};

const SEED: &str = "BOXBUILD_TEST_KILL_SEED";
const IMAGE: &str = "BOXBUILD_TEST_KILL_IMAGE";
/// How often the test kills, if not 10 times.
const KILLS: &str = "BOXBUILD_TEST_KILLS";
const SECTORS: u64 = LEN as u64 / SECTOR;

/// A generator of random numbers (xorshift64, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[derive(Clone, Copy)]
enum Step {
    Write { at: u64, len: u64 },
    Zero { at: u64, len: u64 },
    Flush,
}

fn steps(seed: u64) -> impl Iterator<Item = Step> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    std::iter::repeat_with(move || {
        let at = random.next(SECTORS);
        let len = (random.next(64) + 1).min(SECTORS - at);
        match random.next(8) {
            0 => Step::Flush,
            1 => Step::Zero { at, len },
            _ => Step::Write { at, len },
        }
    })
}

/// What step `number` of `seed` writes into a sector: no two steps the same.
fn stamp(seed: u64, number: u64, sector: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    for (word, value) in bytes
        .chunks_exact_mut(8)
        .zip([seed, number, sector, !number].into_iter().cycle())
    {
        word.copy_from_slice(&value.wrapping_add(1).to_le_bytes());
    }
    bytes
}

#[test]
#[ignore = "the process that a_killed_writer_leaves_a_whole_image kills"]
fn writer() {
    let (Ok(seed), Some(path)) = (std::env::var(SEED), std::env::var_os(IMAGE)) else {
        panic!("only for another test");
    };
    let seed: u64 = seed.parse().unwrap();
    let disk = open(Path::new(&path), None);
    // Not through libtest's capture; and one system call each.
    let mut out = std::fs::File::options()
        .write(true)
        .open("/dev/stdout")
        .unwrap();
    for (number, step) in (0..).zip(steps(seed)) {
        match step {
            Step::Write { at, len } => {
                let sectors = at..at + len;
                let bytes: Vec<u8> = sectors
                    .flat_map(|sector| stamp(seed, number, sector))
                    .collect();
                write(&disk, at * SECTOR, &bytes).unwrap();
            }
            Step::Zero { at, len } => disk.zero(at * SECTOR, len * SECTOR, false).unwrap(),
            Step::Flush => {
                disk.flush().unwrap();
                out.write_all(format!("\nflushed {number}\n").as_bytes())
                    .unwrap();
            }
        }
    }
}

/// Runs the writer, kills it, and returns the number of its last flush.
fn run(path: &Path, seed: u64, delay: Duration) -> Option<u64> {
    let mut child: Child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "disk::qcow2::crash_tests::writer",
        ])
        .env(SEED, seed.to_string())
        .env(IMAGE, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut last = None;
    let id = child.id();
    let mut killer = None;
    for line in output.lines().map_while(Result::ok) {
        if let Some(number) = line.strip_prefix("flushed ") {
            last = Some(number.parse().unwrap());
        }
        // From the first sign of life on: opening is a part of it.
        killer.get_or_insert_with(|| {
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                // SAFETY: the call has no pointers; the child is not waited for before this
                // thread is, so the number is its own.
                unsafe { libc::kill(id as libc::pid_t, libc::SIGKILL) };
            })
        });
    }
    let _ = killer.map(std::thread::JoinHandle::join);
    let status = child.wait().unwrap();
    assert!(
        status.code().is_none(),
        "the writer ended by itself: {status}"
    );
    last
}

/// What a sector may hold.
#[derive(Default, Clone)]
struct Allowed {
    /// What the last flush must have kept: the step and whether it wrote, or zeroed.
    kept: Option<(u64, bool)>,
    /// Steps after the last flush that wrote it.
    written: Vec<u64>,
    /// A step after the last flush zeroed it.
    zeroed: bool,
}

/// Checks `found` against what may be there, if the last flush was step `flushed`.
fn check(found: &[u8], before: &[u8], seed: u64, flushed: Option<u64>) {
    let mut allowed = vec![Allowed::default(); SECTORS as usize];
    // How far the writer got after its last flush is not known.
    let all = steps(seed).take(flushed.unwrap_or(0) as usize + 5000);
    for (number, step) in (0..).zip(all) {
        let (at, len, writes) = match step {
            Step::Write { at, len } => (at, len, true),
            Step::Zero { at, len } => (at, len, false),
            Step::Flush => continue,
        };
        for sector in &mut allowed[at as usize..(at + len) as usize] {
            match (flushed, writes) {
                (Some(flushed), _) if number < flushed => sector.kept = Some((number, writes)),
                (_, true) => sector.written.push(number),
                (_, false) => sector.zeroed = true,
            }
        }
    }
    for (sector, (bytes, allowed)) in (0..).zip(found.chunks_exact(512).zip(allowed)) {
        let number = u64::from_le_bytes(bytes[8..16].try_into().unwrap()).wrapping_sub(1);
        let zeros = bytes.iter().all(|byte| *byte == 0);
        let written_by = |step| number == step && bytes == stamp(seed, step, sector);
        let kept = match allowed.kept {
            Some((step, true)) => written_by(step),
            Some((_, false)) => zeros,
            None => bytes == &before[sector as usize * 512..][..512],
        };
        let later = allowed.zeroed && zeros || allowed.written.iter().copied().any(written_by);
        let foreign = u64::from_le_bytes(bytes[..8].try_into().unwrap()).wrapping_sub(1) != seed;
        assert!(
            kept || later,
            "sector {sector} after step {flushed:?} of seed {seed}: step {number} (of an earlier \
             seed: {foreign}; zeros: {zeros}) where {:?} was flushed",
            allowed.kept
        );
    }
}

#[test]
fn a_killed_writer_leaves_a_whole_image() {
    let kills = std::env::var(KILLS).map_or(10, |kills| kills.parse().unwrap());
    let kinds = [
        ("", false),
        ("cluster_size=4096", true),
        ("cluster_size=512", false),
    ];
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(u64::from(std::process::id()) | 1 << 40);
    let mut path = None;
    let mut model = content();
    for kill in 0..kills {
        // A fresh image now and then; else the one that the last kill left.
        if kill % 5 == 0 {
            let (options, compress) = kinds[kill / 5 % kinds.len()];
            path = image(dir.path(), options, compress);
            model = content();
        }
        let Some(path) = &path else { return };
        let seed = random.next(u64::MAX >> 8);
        let delay = Duration::from_micros(random.next(60_000));
        let flushed = run(path, seed, delay);
        assert_clean(path, &format!("kill {kill}, seed {seed}"));
        let found = read(&open(path, None), 0, LEN);
        check(&found, &model, seed, flushed);
        model = found;
    }
}
