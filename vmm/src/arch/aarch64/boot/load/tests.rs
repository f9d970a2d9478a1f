use std::fs::File;
use std::io::Write;

use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::memory::allocate;

/// An Image of 4 KiB that asks for 8 MiB.
fn image(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[16..24].copy_from_slice(&(8_u64 << 20).to_le_bytes());
    bytes[24..32].copy_from_slice(&10_u64.to_le_bytes());
    bytes[56..60].copy_from_slice(b"ARM\x64");
    bytes[64..70].copy_from_slice(b"kernel");
    change(&mut bytes);
    bytes
}

/// An EFI program that unpacks an Image, as far as its header says so.
fn zboot(format: &[u8], packed: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 100];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[4..8].copy_from_slice(b"zimg");
    bytes[8..12].copy_from_slice(&100_u32.to_le_bytes());
    bytes[12..16].copy_from_slice(&(packed.len() as u32).to_le_bytes());
    bytes[24..24 + format.len()].copy_from_slice(format);
    bytes.extend_from_slice(packed);
    bytes.extend_from_slice(b"behind the payload");
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn boot(ram: &GuestRam, kernel: &[u8], initrd: Option<&File>) -> Result<Entry, BootError> {
    load(
        ram,
        Boot {
            kernel: &mut file(kernel),
            initrd,
            cmdline: "quiet",
            tables: Tables,
        },
    )
}

#[test]
fn an_image_is_loaded_packed_or_not() {
    let plain = image(|_| {});
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for kernel in [
        plain.clone(),
        gzip(&plain),
        zstd.clone(),
        zboot(b"gzip", &gzip(&plain)),
        zboot(b"zstd", &zstd),
    ] {
        let ram = allocate(64).unwrap();
        let entry = boot(&ram, &kernel, None).unwrap();
        assert_eq!((entry.address, entry.initrd), (layout::KERNEL, None));
        let mut bytes = [0; 6];
        ram.read_slice(&mut bytes, GuestAddress(layout::KERNEL + 64))
            .unwrap();
        assert_eq!(&bytes, b"kernel");
    }
}

#[test]
fn the_ramdisk_lies_behind_the_kernel_and_not_far_from_it() {
    let ram = allocate(64).unwrap();
    let initrd = file(b"ramdisk");
    let entry = boot(&ram, &image(|_| {}), Some(&initrd)).unwrap();
    let range = entry.initrd.unwrap();
    assert_eq!(
        (range.start, range.len),
        (layout::RAM + (64 << 20) - 4096, 7)
    );
    let mut bytes = [0; 7];
    ram.read_slice(&mut bytes, GuestAddress(range.start))
        .unwrap();
    assert_eq!(&bytes, b"ramdisk");

    let ram = allocate(40 << 10).unwrap();
    let range = boot(&ram, &image(|_| {}), Some(&initrd))
        .unwrap()
        .initrd
        .unwrap();
    assert_eq!(range.start + 4096, layout::RAM + (32 << 30));

    let large = tempfile::tempfile().unwrap();
    large.set_len(60 << 20).unwrap();
    let ram = allocate(64).unwrap();
    let error = boot(&ram, &image(|_| {}), Some(&large)).unwrap_err();
    assert!(
        matches!(error, BootError::InitrdRoom { size, room } if size == 60 << 20 && room == 54 << 20),
        "{error}"
    );
}

#[test]
fn a_kernel_without_room_is_refused_before_it_is_loaded() {
    let ram = allocate(64).unwrap();
    let large = image(|bytes| bytes[16..24].copy_from_slice(&(63_u64 << 20).to_le_bytes()));
    let error = boot(&ram, &large, None).unwrap_err();
    assert!(
        matches!(error, BootError::Memory { need: 65, have: 64 }),
        "{error}"
    );
    for field in [8, 16] {
        let wild = image(|bytes| bytes[field..field + 8].fill(0xff));
        assert!(boot(&ram, &wild, None).is_err());
    }
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let ram = allocate(64).unwrap();
    let good = image(|_| {});
    for bytes in [
        &b""[..],
        b"MZ",
        b"MZ\0\0zimg",
        &good[..63],
        &image(|bytes| bytes[56] = 0),
        // Big-endian.
        &image(|bytes| bytes[24] = 11),
        b"\x7fELF\x02\x01",
    ] {
        let error = boot(&ram, bytes, None).unwrap_err();
        assert!(matches!(error, BootError::Format), "{error}");
    }
    let packed = gzip(&good);
    for bytes in [
        &packed[..packed.len() / 2],
        &b"\x1f\x8b\x08nothing"[..],
        &zboot(b"zstd", &packed),
    ] {
        let error = boot(&ram, bytes, None).unwrap_err();
        assert!(matches!(error, BootError::Unpack(_)), "{error}");
    }
    let error = boot(&ram, &zboot(b"xz\x1b", b""), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("packed with xz\\x1b, which"), "{error}");
}

#[test]
fn command_lines_are_checked_against_what_arm64_takes() {
    let ram = allocate(64).unwrap();
    let boot = |cmdline: &str| {
        load(
            &ram,
            Boot {
                kernel: &mut file(&image(|_| {})),
                initrd: None,
                cmdline,
                tables: Tables,
            },
        )
    };
    assert_eq!(boot(&"x".repeat(2047)).unwrap().cmdline.len(), 2047);
    assert!(matches!(
        boot(&"x".repeat(2048)),
        Err(BootError::Cmdline {
            length: 2048,
            limit: 2047
        })
    ));
    assert!(matches!(boot("a\0b"), Err(BootError::CmdlineNul)));
}
