//! An image written in place, against a plain vector of bytes and against `qemu-img`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use vm_memory::VolatileSlice;

use super::Qcow2Disk;
use super::table::{COMPRESSED, COPIED, OFFSET, ZERO, be_u64};
use crate::disk::{Disk, Image, ImageError, SECTOR, open_in_place};
use crate::guest_io::Cursor;

pub(super) const LEN: usize = 1 << 20;

/// Kinds of images: options of `qemu-img`, and whether the clusters are compressed.
const KINDS: [(&str, bool); 6] = [
    ("", false),
    ("cluster_size=512", false),
    ("cluster_size=4096,compat=0.10", false),
    ("cluster_size=4096", true),
    ("cluster_size=512,compat=0.10", true),
    ("compression_type=zstd", true),
];

pub(super) fn skip(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}

/// Content that tells sectors apart, half of it holes.
pub(super) fn content() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..LEN as u32)
        .map(|i| (i / 512 * 7 + i % 5) as u8)
        .collect();
    for hole in bytes.chunks_mut(150_000).step_by(2) {
        hole.fill(0);
    }
    bytes
}

pub(super) fn qemu_img(args: &[&str], paths: &[&Path]) -> std::io::Result<std::process::Output> {
    Command::new("qemu-img").args(args).args(paths).output()
}

/// An image of `content`; nothing without `qemu-img`.
pub(super) fn image(dir: &Path, options: &str, compress: bool) -> Option<PathBuf> {
    let (raw, path) = (dir.join("raw"), dir.join("qcow2"));
    std::fs::write(&raw, content()).unwrap();
    let mut args = vec!["convert", "-f", "raw", "-O", "qcow2"];
    if !options.is_empty() {
        args.extend(["-o", options]);
    }
    if compress {
        args.push("-c");
    }
    match qemu_img(&args, &[&raw, &path]) {
        Ok(output) if output.status.success() => Some(path),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => {
            skip("qemu-img is not installed");
            None
        }
    }
}

/// No errors and no leaks.
pub(super) fn assert_clean(path: &Path, when: &str) {
    let output = qemu_img(&["check", "-f", "qcow2"], &[path]).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{when}: {text}{errors}");
}

/// What QEMU finds in the image.
fn converted(path: &Path) -> Vec<u8> {
    let raw = path.with_extension("converted");
    let output = qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[path, &raw]).unwrap();
    assert!(output.status.success());
    std::fs::read(raw).unwrap()
}

pub(super) fn open(path: &Path, len: Option<u64>) -> Qcow2Disk {
    let file = File::options().read(true).write(true).open(path).unwrap();
    Qcow2Disk::open(file, path.to_owned(), len).unwrap()
}

pub(super) fn write(disk: &Qcow2Disk, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
    let mut bytes = bytes.to_vec();
    let third = bytes.len() / 3;
    let (head, tail) = bytes.split_at_mut(third);
    let parts = [VolatileSlice::from(head), VolatileSlice::from(tail)];
    disk.write_at(offset, &mut Cursor::new(&parts))
}

pub(super) fn read(disk: &Qcow2Disk, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let parts = [VolatileSlice::from(&mut bytes[..])];
    disk.read_at(offset, &mut Cursor::new(&parts)).unwrap();
    bytes
}

/// One step: what, where (in sectors), how long, with which byte.
type Step = (u8, u64, u64, u8);

fn step() -> impl Strategy<Value = Step> {
    let sectors = LEN as u64 / SECTOR;
    (0..8_u8, 0..sectors, 1..300_u64, any::<u8>())
        .prop_map(move |(what, at, len, byte)| (what, at, len.min(sectors - at), byte))
}

fn apply(disk: &Qcow2Disk, model: &mut [u8], (what, at, len, byte): Step) {
    let (offset, len) = (at * SECTOR, len * SECTOR);
    let range = offset as usize..(offset + len) as usize;
    match what {
        0..=3 => {
            write(disk, offset, &vec![byte; len as usize]).unwrap();
            model[range].fill(byte);
        }
        4 => {
            disk.zero(offset, len, false).unwrap();
            model[range].fill(0);
        }
        5 => {
            // Afterwards any contents are right; the model takes what there is.
            disk.zero(offset, len, true).unwrap();
            model[range.clone()].copy_from_slice(&read(disk, offset, len as usize));
        }
        6 => disk.flush().unwrap(),
        _ => assert!(read(disk, offset, len as usize) == model[range]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn an_image_is_a_disk(
        kind in 0..KINDS.len(),
        rounds in proptest::collection::vec(proptest::collection::vec(step(), 1..40), 1..4),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (options, compress) = KINDS[kind];
        let Some(path) = image(dir.path(), options, compress) else { return Ok(()) };
        let mut model = content();
        for steps in rounds {
            let disk = open(&path, None);
            for step in steps {
                apply(&disk, &mut model, step);
            }
            prop_assert!(read(&disk, 0, LEN) == model);
            drop(disk);
            assert_clean(&path, options);
            prop_assert!(converted(&path) == model);
        }
    }
}

/// Each write of a commit is the last one once: what is in the file then is clean and whole, the
/// last commit's; and the next attempt succeeds.
#[test]
fn a_commit_may_stop_anywhere() {
    for (options, compress) in KINDS {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = image(dir.path(), options, compress) else {
            return;
        };
        let mut model = content();
        let disk = open(&path, Some(2 * LEN as u64));
        model.resize(2 * LEN, 0);
        disk.flush().unwrap();
        let mut stops = 0;
        for fuse in 0.. {
            let committed = model.clone();
            // New clusters, and over what is there where that is compressed.
            let at = (fuse as usize * 65536) % LEN;
            write(&disk, at as u64, &[fuse as u8 + 1; 3000][..2560]).unwrap();
            write(&disk, (LEN + at) as u64, &[fuse as u8 + 1; 1024]).unwrap();
            model[at..at + 2560].fill(fuse as u8 + 1);
            model[LEN + at..LEN + at + 1024].fill(fuse as u8 + 1);
            disk.exclusive().fuse.store(fuse, Ordering::Relaxed);
            let stopped = disk.flush().is_err();
            disk.exclusive().fuse.store(u32::MAX, Ordering::Relaxed);
            assert_clean(&path, &format!("{options} {compress} {fuse}"));
            // Data in clusters that were there before are there; all else is as committed.
            let found = converted(&path);
            for (sector, bytes) in found.chunks(512).enumerate() {
                let range = sector * 512..(sector + 1) * 512;
                let old = bytes == &committed[range.clone()];
                assert!(bytes == &model[range] || (stopped && old), "{sector}");
            }
            if !stopped {
                break;
            }
            stops += 1;
            disk.flush().unwrap();
            assert_clean(&path, options);
            assert!(converted(&path) == model, "{options}");
        }
        // A table, the first table, a block, the table of blocks, the header.
        assert!(stops >= 5, "{options}: {stops}");
    }
}

#[test]
fn an_image_can_become_longer() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = image(dir.path(), "cluster_size=512", false) else {
        return;
    };
    let len = 40 * LEN as u64;
    {
        let disk = open_in_place(&path, Some(len)).unwrap();
        assert_eq!(disk.size(), len);
    }
    let disk = open(&path, None);
    assert_eq!(disk.size(), len);
    write(&disk, len - 512, &[5; 512]).unwrap();
    drop(disk);
    assert_clean(&path, "grown");
    let found = converted(&path);
    assert!(found[..LEN] == content());
    assert!(found[LEN..found.len() - 512].iter().all(|byte| *byte == 0));
    assert_eq!(found[found.len() - 512..], [5; 512]);
    for wrong in [LEN as u64, len + 1] {
        let error = open_in_place(&path, Some(wrong)).unwrap_err();
        assert!(matches!(error, ImageError::Length(_)), "{error}");
    }
}

/// The file does not grow for ever: what a commit leaves behind is used by the next.
#[test]
fn commits_use_what_earlier_ones_left() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = image(dir.path(), "", true) else {
        return;
    };
    let disk = open(&path, Some(64 << 20));
    let size = |rounds: std::ops::Range<u64>| {
        for round in rounds {
            write(&disk, round * (64 << 10), &[1; 512]).unwrap();
            disk.flush().unwrap();
        }
        std::fs::metadata(&path).unwrap().len()
    };
    let before = size(0..40);
    let after = size(40..440);
    // 400 clusters of data, and a few for tables.
    assert!(after - before <= 410 << 16, "{before} {after}");
}

#[test]
fn what_is_not_written_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = image(dir.path(), "", false) else {
        return;
    };
    let refused = |path: &Path| open_in_place(path, None).unwrap_err();
    assert!(
        qemu_img(&["snapshot", "-c", "a"], &[&path])
            .unwrap()
            .status
            .success()
    );
    let error = refused(&path);
    assert!(matches!(error, ImageError::NotWritable(_)), "{error}");
    for options in ["refcount_bits=1", "extended_l2=on"] {
        let Some(path) = image(dir.path(), options, false) else {
            return;
        };
        let error = refused(&path);
        let right = matches!(
            error,
            ImageError::NotWritable(_) | ImageError::Unsupported(_)
        );
        assert!(right, "{error}");
    }
    // A dirty image, and one whose first table counts as free.
    let Some(path) = image(dir.path(), "", false) else {
        return;
    };
    let good = std::fs::read(&path).unwrap();
    let mut bytes = good.clone();
    bytes[79] |= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(refused(&path), ImageError::NeedsRepair(_)));
    let table = be_u64(&good, be_u64(&good, 48) as usize) as usize;
    let l1 = (be_u64(&good, 40) >> 16) as usize;
    let mut bytes = good.clone();
    bytes[table + 2 * l1 + 1] = 0;
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(refused(&path), ImageError::NeedsRepair(_)));
}

/// Damaged images are refused or give errors; nothing else happens.
#[test]
fn damage_does_no_harm_to_writers() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = image(dir.path(), "cluster_size=4096", true) else {
        return;
    };
    let good = std::fs::read(&path).unwrap();
    let places = (0..112).chain((4096..good.len().min(40_000)).step_by(97));
    for place in places {
        let mut bytes = good.clone();
        bytes[place] ^= 0x91;
        std::fs::write(&path, &bytes).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let Ok(disk) = Qcow2Disk::open(file, path.clone(), None) else {
            continue;
        };
        let end = disk.size().min(LEN as u64).saturating_sub(4096);
        for at in (0..end).step_by(50_000) {
            let _ = write(&disk, at & !511, &[1; 1024]);
            let _ = disk.zero(at & !511, 4096, false);
        }
        let _ = disk.flush();
    }
}

#[test]
fn one_writer_or_many_readers() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = image(dir.path(), "", false) else {
        return;
    };
    let in_use = |error: ImageError| assert!(matches!(error, ImageError::InUse), "{error}");
    let readers = (Image::open(&path).unwrap(), Image::open(&path).unwrap());
    in_use(open_in_place(&path, None).unwrap_err());
    let resize = qemu_img(&["resize", "-f", "qcow2"], &[&path, Path::new("2M")]).unwrap();
    assert!(!resize.status.success());
    assert_clean(&path, "with readers");
    drop(readers);
    let writer = open_in_place(&path, None).unwrap();
    in_use(open_in_place(&path, None).unwrap_err());
    in_use(Image::open(&path).unwrap_err());
    let check = qemu_img(&["check"], &[&path]).unwrap();
    assert!(String::from_utf8_lossy(&check.stderr).contains("lock"));
    drop(writer);
    Image::open(&path).unwrap();
}

/// The entry of a cluster of the disk, in the file.
fn entry_at(image: &[u8], cluster: usize) -> usize {
    let l1 = be_u64(image, 40) as usize;
    (be_u64(image, l1) & OFFSET) as usize + 8 * cluster
}

/// "In use once", but at no place: no data, whatever the bit says.
#[test]
fn an_entry_that_points_at_offset_0_is_a_hole() {
    for options in ["", "compat=0.10"] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = image(dir.path(), options, false) else {
            return;
        };
        let mut bytes = std::fs::read(&path).unwrap();
        let mut model = content();
        // Holes of the content.
        for cluster in [0, 1, 10] {
            let at = entry_at(&bytes, cluster);
            assert_eq!(bytes[at..at + 8], [0; 8], "{cluster}");
            bytes[at..at + 8].copy_from_slice(&COPIED.to_be_bytes());
        }
        std::fs::write(&path, &bytes).unwrap();
        let disk = open(&path, None);
        assert!(read(&disk, 0, LEN) == model);
        disk.zero(0, 4096, false).unwrap();
        disk.zero(10 << 16, 1 << 16, true).unwrap();
        write(&disk, 10 << 16, &[7; 1024]).unwrap();
        model[10 << 16..][..1024].fill(7);
        assert!(read(&disk, 0, LEN) == model);
        drop(disk);
        assert_clean(&path, options);
        assert!(converted(&path) == model);
    }
}

/// A packed cluster in the header was released when it was written, and the header then was the place
/// of something else.
#[test]
fn data_in_a_table_are_neither_written_nor_released() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = image(dir.path(), "", true) else {
        return;
    };
    let good = std::fs::read(&path).unwrap();
    let l1 = be_u64(&good, 40);
    let l2 = be_u64(&good, l1 as usize) & OFFSET;
    let table = be_u64(&good, 48);
    let block = be_u64(&good, table as usize) & OFFSET;
    for wrong in [
        COMPRESSED,
        COMPRESSED | 104,
        COMPRESSED | (l2 + 300),
        COPIED | l1,
        COPIED | l2,
        COPIED | table,
        COPIED | block,
        COPIED | block | ZERO,
        l1,
    ] {
        let mut bytes = good.clone();
        let at = entry_at(&good, 3);
        bytes[at..at + 8].copy_from_slice(&wrong.to_be_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let disk = open(&path, None);
        for offset in [0, 3 << 16] {
            let error = write(&disk, offset, &[1; 1024]).unwrap_err();
            assert!(error.to_string().contains("tables"), "{wrong:#x}: {error}");
            disk.zero(offset, 1 << 16, true).unwrap_err();
        }
        disk.flush().unwrap();
        drop(disk);
        assert!(std::fs::read(&path).unwrap() == bytes, "{wrong:#x}");
    }
}

#[test]
fn many_threads_write_one_image() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = image(dir.path(), "", true) else {
        return;
    };
    let disk = open(&path, None);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let disk = &disk;
            scope.spawn(move || {
                for at in (0..LEN as u64 / SECTOR).filter(|at| at % 4 == thread) {
                    write(disk, at * SECTOR, &[at as u8; 512]).unwrap();
                    if at % 64 < 4 {
                        disk.flush().unwrap();
                    }
                }
            });
        }
    });
    drop(disk);
    assert_clean(&path, "threads");
    for (at, sector) in converted(&path).chunks(512).enumerate() {
        assert!(sector.iter().all(|byte| *byte == at as u8), "{at}");
    }
}
