//! Clusters that are unpacked ahead, by threads that help.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vm_memory::VolatileSlice;

use super::tests::{qemu_img, skip};
use crate::disk::{Disk, Image, Overlay};
use crate::guest_io::Cursor;
use crate::threads::Threads;

const LEN: usize = 6 << 20;

/// Content that shrinks by half, without two equal blocks.
fn content() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = vec![0; LEN];
    for word in bytes.chunks_exact_mut(16) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word[..8].copy_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// A compressed image of [`content`]; nothing without `qemu-img`.
fn packed(dir: &Path, options: &str) -> Option<PathBuf> {
    let (raw, path) = (dir.join("raw"), dir.join("qcow2"));
    std::fs::write(&raw, content()).unwrap();
    let args = [
        "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, "-S", "0",
    ];
    match qemu_img(&args, &[&raw, &path]) {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => {
            skip("qemu-img is not installed");
            return None;
        }
    }
    Some(path)
}

fn overlay(path: &Path) -> Overlay {
    let folder = path.parent().unwrap();
    Overlay::new(Image::open(path).unwrap(), None, folder).unwrap()
}

fn read(overlay: &Overlay, offset: usize, len: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0xee; len];
    let slices = [VolatileSlice::from(&mut bytes[..])];
    overlay.read_at(offset as u64, &mut Cursor::new(&slices))?;
    Ok(bytes)
}

/// Waits until threads help.
fn with_help(overlay: &Overlay) {
    overlay.allow_help(&Threads::default());
    read(overlay, 0, 512).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !overlay.reads_ahead() {
        assert!(Instant::now() < deadline, "no thread helps");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_unpacked_ahead_is_what_is_read() {
    let expected = content();
    for options in [
        "cluster_size=65536",
        "cluster_size=4096,compression_type=zstd",
        "cluster_size=2M",
        "cluster_size=512",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = packed(dir.path(), options) else {
            return;
        };
        let overlay = overlay(&path);
        with_help(&overlay);
        // In order, with requests of many lengths.
        let mut at = 0;
        for len in [512, 4096, 100_000, 1 << 20, 300_000, 2 << 20]
            .iter()
            .cycle()
        {
            let len = *len.min(&(LEN - at));
            assert!(
                read(&overlay, at, len).unwrap() == expected[at..at + len],
                "{at}"
            );
            at += len;
            if at == LEN {
                break;
            }
        }
        // From several threads at once, some with a word of what comes.
        std::thread::scope(|scope| {
            for seed in 1..5_usize {
                let (overlay, expected) = (&overlay, &expected);
                scope.spawn(move || {
                    let mut state = seed;
                    for _ in 0..200 {
                        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(seed);
                        let at = (state >> 20) % (LEN - 8192);
                        if seed < 3 {
                            overlay.will_read(at as u64 / 2, 100_000);
                            overlay.will_read(at as u64, u64::MAX);
                        }
                        assert!(read(overlay, at, 8192).unwrap() == expected[at..at + 8192]);
                    }
                });
            }
        });
    }
}

/// The file of an image is closed with it, and its lock gone: no helping thread has it open still.
#[test]
fn a_closed_image_has_no_helping_threads() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = packed(dir.path(), "cluster_size=65536") else {
        return;
    };
    for _ in 0..50 {
        let image = Image::open(&path).unwrap();
        let file = image.open_file();
        let overlay = Overlay::new(image, None, dir.path()).unwrap();
        overlay.allow_help(&Threads::default());
        read(&overlay, 0, 512).unwrap();
        overlay.will_read(0, 1 << 20);
        assert!(file.upgrade().is_some());
        drop(overlay);
        assert!(file.upgrade().is_none());
    }
}

/// Each read of the damaged cluster fails, on any thread; no other read does, and no reader
/// waits for ever.
#[test]
fn damage_ahead_is_an_error_of_its_reader() {
    const CLUSTER: usize = 65536;
    for options in ["cluster_size=65536", "compression_type=zstd"] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = packed(dir.path(), options) else {
            return;
        };
        let image = Image::open(&path).unwrap();
        let (mapping, _) = image.map(5 * CLUSTER as u64, 1).unwrap();
        let crate::disk::mapping::Mapping::Compressed { entry, .. } = mapping else {
            panic!("{mapping:?}");
        };
        drop(image);
        // The offset of a packed cluster (bits 0 to 53 with clusters of 64 KiB).
        let place = entry & ((1 << 54) - 1);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0xff; 600], place).unwrap();
        let overlay = overlay(&path);
        with_help(&overlay);
        let expected = content();
        for _ in 0..20 {
            overlay.will_read(0, 1 << 20);
            for cluster in 0..16 {
                let at = cluster * CLUSTER;
                let got = read(&overlay, at, CLUSTER);
                match cluster {
                    5 => assert!(got.is_err()),
                    _ => assert!(got.unwrap() == expected[at..at + CLUSTER], "{cluster}"),
                }
            }
            // A request with the damage in its middle.
            assert!(read(&overlay, 0, 1 << 20).is_err());
        }
    }
}

#[test]
fn what_is_unpacked_ahead_has_a_limit() {
    for (bits, limit) in [(9, 32), (16, 32), (19, 4), (21, 2)] {
        let unpacker = super::compressed::Unpacker::new(bits, false);
        let taken = (0..10_000_u64).filter(|entry| unpacker.want(*entry << 9));
        assert_eq!(taken.count(), limit, "{bits}");
        // What is listed already is no more.
        assert!(unpacker.want(0) && !unpacker.want(20_000 << 9));
    }
}
