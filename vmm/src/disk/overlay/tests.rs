//! Against a plain vector of bytes, over images that `qemu-img` makes.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use proptest::prelude::*;
use vm_memory::VolatileSlice;

use super::*;
use crate::disk::ImageError;

const LEN: usize = 1 << 20;

/// Content that tells one block from another, with a hole.
fn content() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..LEN as u32)
        .flat_map(|i| [(i / 512 * 7 + i % 5) as u8])
        .collect();
    bytes[300_000..500_000].fill(0);
    bytes
}

fn skip(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}

struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("raw"), content()).unwrap();
        Bench { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same content as qcow2; `None` without `qemu-img`.
    fn qcow2(&self, options: &str, compress: bool) -> Option<PathBuf> {
        let path = self.path("qcow2");
        let mut command = Command::new("qemu-img");
        command.args(["convert", "-f", "raw", "-O", "qcow2"]);
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        if compress {
            command.arg("-c");
        }
        let output = command.arg(self.path("raw")).arg(&path).output();
        match output {
            Ok(output) if output.status.success() => Some(path),
            Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => {
                skip("qemu-img is not installed");
                None
            }
        }
    }

    fn overlay(&self, path: &Path, len: Option<u64>) -> Overlay {
        Overlay::new(Image::open(path).unwrap(), len, self.dir.path()).unwrap()
    }
}

/// Reads through buffers of odd sizes, as a guest may have them.
fn read(disk: &Overlay, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    {
        let mut parts = Vec::new();
        let mut rest = &mut bytes[..];
        let mut size = 1;
        while !rest.is_empty() {
            let (part, tail) = rest.split_at_mut(size.min(rest.len()));
            parts.push(VolatileSlice::from(part));
            rest = tail;
            size = size * 3 + 11;
        }
        disk.read_at(offset, &mut Buffers::new(&parts)).unwrap();
    }
    bytes
}

fn write(disk: &Overlay, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut bytes = bytes.to_vec();
    let third = bytes.len() / 3;
    let (head, tail) = bytes.split_at_mut(third);
    let parts = [VolatileSlice::from(head), VolatileSlice::from(tail)];
    disk.write_at(offset, &mut Buffers::new(&parts))
}

#[test]
fn images_of_all_kinds_read_the_same() {
    let bench = Bench::new();
    let expected = content();
    let raw = bench.overlay(&bench.path("raw"), None);
    assert!(read(&raw, 0, LEN) == expected);
    for (options, compress) in [
        ("", false),
        ("compat=0.10", false),
        ("cluster_size=512", false),
        ("cluster_size=2M", false),
        ("lazy_refcounts=on", false),
        ("", true),
        ("cluster_size=4096", true),
        ("compression_type=zstd", true),
    ] {
        let Some(path) = bench.qcow2(options, compress) else {
            return;
        };
        let disk = bench.overlay(&path, None);
        assert_eq!(disk.len(), LEN as u64);
        assert!(read(&disk, 0, LEN) == expected, "{options} {compress}");
        assert!(
            read(&disk, 4000, 200_000) == expected[4000..204_000],
            "{options}"
        );
        assert_eq!(disk.allocated().unwrap(), 0);
    }
}

#[test]
fn what_is_not_supported_is_said() {
    let bench = Bench::new();
    for options in ["extended_l2=on", "data_file=external"] {
        let options = options.replace("external", bench.path("data").to_str().unwrap());
        let Some(path) = bench.qcow2(&options, false) else {
            return;
        };
        let error = Image::open(&path).unwrap_err();
        assert!(matches!(error, ImageError::Unsupported(_)), "{error}");
    }
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .args([bench.path("raw"), bench.path("child")])
        .status();
    assert!(made.unwrap().success());
    let error = Image::open(&bench.path("child")).unwrap_err();
    assert!(error.to_string().contains("a backing file"));
}

#[test]
fn no_damage_does_harm() {
    let bench = Bench::new();
    let Some(path) = bench.qcow2("cluster_size=512", true) else {
        return;
    };
    let good = std::fs::read(&path).unwrap();
    let damaged = bench.path("damaged");
    let mut buffer = vec![0_u8; LEN];
    // Every byte of the header, and a sample of all others; cut off anywhere.
    let places = (0..112).chain((112..good.len()).step_by(331));
    for place in places {
        for value in [0, 0xff, 0x80] {
            let mut bytes = good.clone();
            bytes[place] = value;
            if value == 0x80 {
                bytes.truncate(place);
            }
            std::fs::write(&damaged, &bytes).unwrap();
            // Whatever comes out, it comes out.
            if let Ok(image) = Image::open(&damaged) {
                let len = image.len().min(LEN as u64) as usize;
                let _ = image.read_bytes(0, &mut buffer[..len]);
            }
        }
    }
}

#[test]
fn ranges_outside_are_refused() {
    let bench = Bench::new();
    let disk = bench.overlay(&bench.path("raw"), Some(2 * LEN as u64));
    let len = 2 * LEN as u64;
    assert!(read(&disk, LEN as u64, LEN).iter().all(|byte| *byte == 0));
    for offset in [len - 511, len, u64::MAX - 100] {
        assert!(write(&disk, offset, &[1; 512]).is_err());
        assert!(disk.zero_range(offset, 512).is_err());
        assert!(disk.discard(offset, 512).is_err());
    }
    write(&disk, len - 512, &[1; 512]).unwrap();
    assert_eq!(read(&disk, len - 512, 512), [1; 512]);
}

#[test]
fn space_comes_back() {
    let bench = Bench::new();
    let disk = bench.overlay(&bench.path("raw"), None);
    write(&disk, 0, &vec![9; LEN]).unwrap();
    assert!(disk.allocated().unwrap() >= LEN as u64);
    disk.discard(100, LEN as u64 - 100).unwrap();
    if disk.allocated().unwrap() > 8192 {
        skip("this file system has no holes");
        return;
    }
    assert_eq!(read(&disk, 0, 100), [9; 100]);
}

/// One change of a disk: what, where (in sectors), how long, with which byte.
fn change() -> impl Strategy<Value = (u8, u64, u64, u8)> {
    let sectors = LEN as u64 / SECTOR;
    (0..3_u8, 0..sectors, 1..40_u64, any::<u8>())
        .prop_map(move |(what, at, len, byte)| (what, at, len.min(sectors - at), byte))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_overlay_is_a_disk(changes in proptest::collection::vec(change(), 1..60)) {
        let bench = Bench::new();
        let disk = bench.overlay(&bench.path("raw"), None);
        let mut model = content();
        for (what, at, len, byte) in changes {
            let (offset, len) = (at * SECTOR, len * SECTOR);
            let range = offset as usize..(offset + len) as usize;
            match what {
                0 => {
                    write(&disk, offset, &vec![byte; len as usize]).unwrap();
                    model[range].fill(byte);
                }
                1 => {
                    disk.zero_range(offset, len).unwrap();
                    model[range].fill(0);
                }
                _ => {
                    prop_assert!(read(&disk, offset, len as usize) == model[range]);
                }
            }
        }
        prop_assert!(read(&disk, 0, LEN) == model);
    }
}

#[test]
fn parts_of_one_block_written_at_once() {
    let bench = Bench::new();
    let disk = bench.overlay(&bench.path("raw"), None);
    std::thread::scope(|scope| {
        for sector in 0..8_u64 {
            let disk = &disk;
            scope.spawn(move || {
                for block in 0..256 {
                    let bytes = [sector as u8 + 1; 512];
                    write(disk, block * BLOCK + sector * SECTOR, &bytes).unwrap();
                }
            });
        }
    });
    let all = read(&disk, 0, LEN);
    for (index, sector) in all.chunks(512).enumerate() {
        assert!(sector.iter().all(|byte| *byte == index as u8 % 8 + 1));
    }
}
