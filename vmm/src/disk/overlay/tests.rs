//! Against a plain vector of bytes, over images that `qemu-img` makes.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use proptest::prelude::*;
use vm_memory::VolatileSlice;

use super::*;
use crate::disk::{ImageError, KeptChanges};

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
        disk.read_at(offset, &mut Cursor::new(&parts)).unwrap();
    }
    bytes
}

fn write(disk: &Overlay, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut bytes = bytes.to_vec();
    let third = bytes.len() / 3;
    let (head, tail) = bytes.split_at_mut(third);
    let parts = [VolatileSlice::from(head), VolatileSlice::from(tail)];
    disk.write_at(offset, &mut Cursor::new(&parts))
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
    std::fs::write(&damaged, &good).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(&damaged)
        .unwrap();
    let mut buffer = vec![0_u8; LEN];
    // Every byte of the header, and a sample of all others; cut off anywhere.
    let places = (0..112).chain((112..good.len()).step_by(2003));
    for place in places {
        for value in [0, 0xff, 0x80] {
            if value == 0x80 {
                file.set_len(place as u64).unwrap();
            } else {
                file.write_all_at(&[value], place as u64).unwrap();
            }
            // Whatever comes out, it comes out.
            if let Ok(image) = Image::open(&damaged) {
                let len = image.len().min(LEN as u64) as usize;
                let _ = image.read_bytes(0, &mut buffer[..len]);
            }
            file.write_all_at(&good[place..], place as u64).unwrap();
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

/// A limit on the length of files stands for a full disk (setrlimit(2)). It holds for a whole
/// process, so that the test does its work in one of its own.
#[test]
fn a_full_host_is_an_error_that_names_the_folder() {
    const CHILD: &str = "BOXBUILD_TEST_FULL";
    let name = "disk::overlay::tests::a_full_host_is_an_error_that_names_the_folder";
    if std::env::var_os(CHILD).is_none() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && text.contains("1 passed"),
            "{text}"
        );
        return;
    }
    let bench = Bench::new();
    let disk = bench.overlay(&bench.path("raw"), None);
    // SAFETY: no pointers but to the limit; nothing else in this process handles the signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let limit = libc::rlimit {
            rlim_cur: LEN as u64 / 2,
            rlim_max: LEN as u64 / 2,
        };
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit), 0);
    }
    let result = write(&disk, LEN as u64 / 2 - 4096, &[3; 8192]);
    let error = disk.with_context(result).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    let folder = bench.dir.path().to_str().unwrap();
    let text = error.to_string();
    assert!(
        text.contains("no space is left") && text.contains(folder),
        "{text}"
    );
    // What was there is still there, and there is still room elsewhere.
    let kept = read(&disk, LEN as u64 / 2, 4096);
    assert!(kept == content()[LEN / 2..LEN / 2 + 4096]);
    write(&disk, 0, &[4; 4096]).unwrap();
    assert_eq!(read(&disk, 0, 4096), [4; 4096]);
}

#[test]
fn an_image_that_cannot_be_read_is_an_error_that_names_it() {
    let bench = Bench::new();
    let Some(path) = bench.qcow2("cluster_size=4096", false) else {
        return;
    };
    let disk = bench.overlay(&path, None);
    // Cut off behind the tables that are read at first: the second-level ones are gone.
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(0)
        .unwrap();
    let mut bytes = [0; 512];
    let parts = [VolatileSlice::from(&mut bytes[..])];
    let error = disk.read_at(0, &mut Cursor::new(&parts)).unwrap_err();
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "{error}"
    );
    // What the guest has written is not touched by that.
    write(&disk, 0, &[1; 4096]).unwrap();
    assert_eq!(read(&disk, 0, 4096), [1; 4096]);
}

#[test]
fn lengths_are_bounded() {
    let bench = Bench::new();
    for len in [LEN as u64 + 1, LONGEST + 512, u64::MAX] {
        let image = Image::open(&bench.path("raw")).unwrap();
        let error = Overlay::new(image, Some(len), bench.dir.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{len}");
    }
    // Never shorter than the image.
    assert_eq!(
        bench.overlay(&bench.path("raw"), Some(512)).len(),
        LEN as u64
    );
}

#[test]
fn a_kept_overlay_is_seen_over_its_image() {
    let bench = Bench::new();
    let image = bench.qcow2("", false).unwrap_or(bench.path("raw"));
    let kept = bench.path("kept");
    std::fs::create_dir(&kept).unwrap();
    let longer = 2 * LEN;
    let mut expected = content();
    expected.resize(longer, 0);
    let overlay = bench.overlay(&image, Some(longer as u64));
    for (offset, len, byte) in [
        (0, 10, 1),
        (4096 * 3 - 5, 9000, 2),
        (LEN - 100, 300, 3),
        (longer - 7, 7, 4),
    ] {
        write(&overlay, offset as u64, &vec![byte; len]).unwrap();
        expected[offset..offset + len].fill(byte);
    }
    overlay.zero_range(600_000, 50_000).unwrap();
    expected[600_000..650_000].fill(0);
    assert!(overlay.keep(&kept).unwrap() > 0);
    assert!(overlay.keep(&kept).is_err(), "nothing is overwritten");
    drop(overlay);

    let image = Image::open(&image)
        .unwrap()
        .with_changes(KeptChanges::open(&kept).unwrap())
        .unwrap();
    assert_eq!(image.len(), longer as u64);
    let mut bytes = vec![0xee; longer];
    image.read_bytes(0, &mut bytes).unwrap();
    assert!(bytes == expected);
    // A disk over it, as over any image.
    let again = Overlay::new(image, None, bench.dir.path()).unwrap();
    write(&again, 5000, b"once more").unwrap();
    expected[5000..5009].copy_from_slice(b"once more");
    assert!(read(&again, 0, longer) == expected);

    std::fs::write(kept.join("changes.map"), "damaged").unwrap();
    assert!(
        Image::open(&bench.path("raw"))
            .unwrap()
            .with_changes(KeptChanges::open(&kept).unwrap())
            .is_err()
    );
}

/// What a build that failed after a checkpoint goes on from is what was there then.
#[test]
fn a_checkpoint_stays_as_it_is_while_more_is_written() {
    let bench = Bench::new();
    let image = bench.path("raw");
    let open = |folders: &[&Path]| {
        let image = Image::open(&image).unwrap();
        folders.iter().fold(image, |image, folder| {
            image
                .with_changes(KeptChanges::open(folder).unwrap())
                .unwrap()
        })
    };
    let overlay = Overlay::new(open(&[]), None, bench.dir.path()).unwrap();
    let mut before = read(&overlay, 0, LEN);
    write(&overlay, 10, &[1; 9000]).unwrap();
    before[10..9010].fill(1);

    let first = overlay.layers().file.try_clone().unwrap();
    let checkpoint = bench.path("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    let file = tmpfile::create(bench.dir.path()).unwrap();
    changes::keep(&first, &checkpoint, |map| overlay.checkpoint(file, map)).unwrap();
    assert!(
        read(&overlay, 0, LEN) == before,
        "the guest sees no difference"
    );

    // Whole blocks, parts of blocks of both files below, and holes.
    let mut after = before.clone();
    for (offset, len, byte) in [(0, 4096, 2), (5000, 10, 3), (100_001, 7, 4)] {
        write(&overlay, offset as u64, &vec![byte; len]).unwrap();
        after[offset..offset + len].fill(byte);
    }
    overlay.zero_range(4096 * 2, 4096).unwrap();
    after[4096 * 2..4096 * 3].fill(0);
    assert!(read(&overlay, 0, LEN) == after);
    let end = bench.path("end");
    std::fs::create_dir(&end).unwrap();
    overlay.keep(&end).unwrap();
    drop(overlay);

    let again = |folders: &[&Path]| {
        let overlay = Overlay::new(open(folders), None, bench.dir.path()).unwrap();
        read(&overlay, 0, LEN)
    };
    assert!(again(&[&checkpoint]) == before);
    assert!(again(&[&checkpoint, &end]) == after);
}
