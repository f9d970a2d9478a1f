//! Images whose tables are chosen to keep their reader busy, or to fill its memory or its disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::header::LARGEST_L1;
use super::table::{COMPRESSED, COPIED};
use crate::disk::{Image, ImageError, open_in_place};

/// Far more than any of this takes, and far less than it took.
const SOON: Duration = Duration::from_secs(20);

/// A sparse image of version 3.
struct Hostile {
    file: File,
    cluster_bits: u32,
}

impl Hostile {
    /// An image that claims a disk of `len` bytes, with its first table at the second cluster.
    fn new(path: &Path, cluster_bits: u32, len: u64) -> Hostile {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path)
            .unwrap();
        let l1_entries = len.div_ceil(1 << (2 * cluster_bits - 3)).max(1);
        let mut header = b"QFI\xfb\0\0\0\x03".to_vec();
        header.extend([0; 12]);
        header.extend(cluster_bits.to_be_bytes());
        header.extend(len.to_be_bytes());
        header.extend([0; 4]);
        header.extend((l1_entries as u32).to_be_bytes());
        header.extend((1_u64 << cluster_bits).to_be_bytes());
        header.resize(96, 0);
        header.extend(4_u32.to_be_bytes());
        header.extend(104_u32.to_be_bytes());
        file.write_all_at(&header, 0).unwrap();
        let end = (1 << cluster_bits) + l1_entries * 8;
        file.set_len(end.next_multiple_of(1 << cluster_bits))
            .unwrap();
        Hostile { file, cluster_bits }
    }

    /// Writes entries to a table in cluster `at`.
    fn table(&self, at: u64, entries: impl IntoIterator<Item = u64>) {
        let bytes: Vec<u8> = entries.into_iter().flat_map(u64::to_be_bytes).collect();
        self.file
            .write_all_at(&bytes, at << self.cluster_bits)
            .unwrap();
    }

    fn per_table(&self) -> usize {
        1 << (self.cluster_bits - 3)
    }
}

fn is_damaged(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|error| error.downcast_ref());
    error.kind() == std::io::ErrorKind::InvalidData
        && (inner.is_none() || matches!(inner, Some(ImageError::Damaged(_))))
}

/// Fault 21: a file of 440 KiB whose first table referred to one second-level table 40,000 times made
/// its reader keep it 40,000 times.
#[test]
fn a_table_is_not_kept_once_for_each_reference() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let hostile = Hostile::new(&path, 16, 20_000 << 29);
    let table = 8 << 16;
    hostile.file.set_len(table + (1 << 16)).unwrap();
    hostile.table(1, (0..20_000).map(|_| table | COPIED));
    assert!(std::fs::metadata(&path).unwrap().len() < 1 << 20);
    let refused = Image::open(&path).unwrap_err();
    assert!(matches!(refused, ImageError::Damaged(_)), "{refused}");
    assert!(open_in_place(&path, None).is_err());
}

/// Fault 22: the header alone kept the reader busy for hours.
#[test]
fn a_header_does_not_decide_on_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let start = Instant::now();
    // As many entries as the format allows, for as many bytes as they can describe.
    Hostile::new(&path, 21, (LARGEST_L1 / 8) << 39);
    let refused = Image::open(&path).unwrap_err();
    assert!(matches!(refused, ImageError::Damaged(_)), "{refused}");
    // The largest disks that are read, with nothing in them.
    for (bits, len) in [(21, 64 << 40), (16, 64 << 40), (9, 64 << 30)] {
        Hostile::new(&path, bits, len);
        let image = Image::open(&path).unwrap();
        assert_eq!(image.len(), len);
        assert!(!image.is_compressed().unwrap());
        let mut out = Vec::new();
        image.write_plain(&mut out).unwrap();
        // The header, and the first table: 1 MiB for 64 TiB.
        assert!(out.len() < 2 << 20, "{}", out.len());
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// Fault 23: a file of 192 KiB was written out as a disk of 16 TiB.
#[test]
fn a_small_file_is_not_a_large_disk() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let start = Instant::now();
    let data = 4 << 21;
    let compressed = {
        let mut deflate =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut deflate, &vec![0; 1 << 21]).unwrap();
        deflate.finish().unwrap()
    };
    let sectors = (compressed.len() as u64).div_ceil(512);
    let x = 62 - (21 - 8);
    for entry in [data | COPIED, COMPRESSED | sectors << x | data] {
        let hostile = Hostile::new(&path, 21, 64 << 40);
        hostile.file.set_len(5 << 21).unwrap();
        hostile.file.write_all_at(&compressed, data).unwrap();
        // One second-level table, all of whose entries refer to the same cluster: 512 GiB.
        hostile.table(1, [2 << 21 | COPIED]);
        hostile.table(2, (0..hostile.per_table()).map(|_| entry));
        hostile
            .file
            .write_all_at(&vec![1; 1 << 16], data + (1 << 20))
            .unwrap();
        let image = Image::open(&path).unwrap();
        let refused = image.plain().unwrap_err();
        assert!(is_damaged(&refused), "{refused}");
        let mut out = Vec::new();
        assert!(is_damaged(&image.write_plain(&mut out).unwrap_err()));
        assert!(out.is_empty());
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
