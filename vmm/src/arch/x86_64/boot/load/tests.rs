use std::io::Write;

use linux_loader::loader::bootparam::{boot_params, setup_header};
use vm_memory::ByteValued;

use super::*;
use crate::memory::allocate;

/// The smallest file that is a bzImage.
fn bzimage(change: impl FnOnce(&mut setup_header)) -> File {
    let mut header = setup_header {
        setup_sects: 1,
        header: 0x5372_6448,
        version: 0x20f,
        loadflags: 1,
        xloadflags: 1,
        cmdline_size: 2047,
        initrd_addr_max: 0x7fff_ffff,
        init_size: 8 << 20,
        ..setup_header::default()
    };
    change(&mut header);
    let mut bytes = vec![0; 2048];
    bytes[0x1f1..0x1f1 + size_of::<setup_header>()].copy_from_slice(header.as_slice());
    bytes[1024..1030].copy_from_slice(b"kernel");
    file(&bytes)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn boot<'a>(kernel: &'a mut File, cmdline: &'a str) -> Boot<'a> {
    Boot {
        kernel,
        initrd: None,
        cmdline,
        tables: Tables { rsdp: 0xe_0000 },
    }
}

#[test]
fn a_bzimage_with_ramdisk_and_command_line() {
    let ram = allocate(128).unwrap();
    let mut kernel = bzimage(|_| {});
    let initrd = file(b"ramdisk");
    let entry = load(
        &ram,
        Boot {
            initrd: Some(&initrd),
            ..boot(&mut kernel, "quiet")
        },
    )
    .unwrap();
    assert_eq!(entry, layout::KERNEL + 0x200);
    let mut bytes = [0; 6];
    ram.read_slice(&mut bytes, GuestAddress(layout::KERNEL))
        .unwrap();
    assert_eq!(&bytes, b"kernel");
    ram.read_slice(&mut bytes, GuestAddress(layout::CMDLINE))
        .unwrap();
    assert_eq!(&bytes, b"quiet\0");

    let mut params = boot_params::default();
    ram.read_slice(params.as_mut_slice(), GuestAddress(layout::BOOT_PARAMS))
        .unwrap();
    let (image, size) = (params.hdr.ramdisk_image, params.hdr.ramdisk_size);
    assert_eq!((image, size), ((128 << 20) - 4096, 7));
    let mut bytes = [0; 7];
    ram.read_slice(&mut bytes, GuestAddress(u64::from(image)))
        .unwrap();
    assert_eq!(&bytes, b"ramdisk");
    let rsdp = params.acpi_rsdp_addr;
    assert_eq!(rsdp, 0xe_0000);
    let ram_bytes: u64 = params.e820_table[..usize::from(params.e820_entries)]
        .iter()
        .filter(|entry| entry.r#type == 1)
        .map(|entry| entry.size)
        .sum();
    assert_eq!(ram_bytes, (127 << 20) + layout::CONVENTIONAL_END);
}

#[test]
fn a_map_of_more_than_four_gib_leaves_the_hole_out() {
    let ram = allocate(5 << 10).unwrap();
    load(&ram, boot(&mut bzimage(|_| {}), "")).unwrap();
    let mut params = boot_params::default();
    ram.read_slice(params.as_mut_slice(), GuestAddress(layout::BOOT_PARAMS))
        .unwrap();
    let map: Vec<(u64, u64, u32)> = params.e820_table[..usize::from(params.e820_entries)]
        .iter()
        .map(|entry| (entry.addr, entry.size, entry.r#type))
        .collect();
    assert_eq!(map[2], (1 << 20, (3 << 30) - (1 << 20), 1));
    assert_eq!(map[3], (layout::ECAM, layout::ECAM_SIZE, 2));
    assert_eq!(map[4], (4 << 30, 2 << 30, 1));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let ram = allocate(64).unwrap();
    let long = "x".repeat(2048);
    let error = load(&ram, boot(&mut bzimage(|_| {}), &long)).unwrap_err();
    assert!(
        matches!(
            error,
            BootError::Cmdline {
                length: 2048,
                limit: 2047
            }
        ),
        "{error}"
    );
    let error = load(&ram, boot(&mut bzimage(|_| {}), "a\0b")).unwrap_err();
    assert!(matches!(error, BootError::CmdlineNul), "{error}");
    let error = load(&ram, boot(&mut bzimage(|h| h.init_size = 60 << 20), "")).unwrap_err();
    assert!(
        matches!(error, BootError::Memory { need: 76, have: 64 }),
        "{error}"
    );
    let initrd = tempfile::tempfile().unwrap();
    initrd.set_len(45 << 20).unwrap();
    let mut kernel = bzimage(|_| {});
    let error = load(
        &ram,
        Boot {
            initrd: Some(&initrd),
            ..boot(&mut kernel, "")
        },
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            BootError::InitrdRoom {
                room: 41_943_040,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn what_is_no_kernel_is_refused() {
    let ram = allocate(64).unwrap();
    let error = load(&ram, boot(&mut file(b"x"), "")).unwrap_err();
    assert!(matches!(error, BootError::Format), "{error}");
    let error = load(&ram, boot(&mut file(&[7; 4096]), "")).unwrap_err();
    assert!(matches!(error, BootError::Format), "{error}");
    let error = load(&ram, boot(&mut file(&b"\x7fELF".repeat(100)), "")).unwrap_err();
    assert!(matches!(error, BootError::Format), "{error}");
    let changes: [fn(&mut setup_header); 2] = [|h| h.xloadflags = 0, |h| h.version = 0x20b];
    for change in changes {
        let error = load(&ram, boot(&mut bzimage(change), "")).unwrap_err();
        assert!(matches!(error, BootError::Not64Bit), "{error}");
    }
}

/// An ELF file with one segment, `kernel`, for `address`.
fn elf(address: u64, entry: u64, memory_len: u64) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(64 + 56, 0);
    bytes[18] = 62;
    bytes[24..32].copy_from_slice(&entry.to_le_bytes());
    bytes[32] = 64;
    bytes[54] = 56;
    bytes[56] = 1;
    bytes[64] = 1;
    for (at, value) in [(8, 120), (24, address), (32, 6), (40, memory_len)] {
        bytes[64 + at..64 + at + 8].copy_from_slice(&value.to_le_bytes());
    }
    bytes.extend(b"kernel");
    bytes
}

#[test]
fn an_elf_file() {
    let ram = allocate(64).unwrap();
    let good = elf(0x100_0000, 0x100_0002, 1 << 20);
    let entry = load(&ram, boot(&mut file(&good), "quiet")).unwrap();
    assert_eq!(entry, 0x100_0002);
    let mut bytes = [0; 6];
    ram.read_slice(&mut bytes, GuestAddress(0x100_0000))
        .unwrap();
    assert_eq!(&bytes, b"kernel");
}

#[test]
fn elf_files_with_wild_headers_are_refused() {
    let ram = allocate(64).unwrap();
    let wild = [
        // Over our own tables, around the end of the address space, entry outside.
        elf(0x1000, 0x1000, 6),
        elf(u64::MAX - 2, u64::MAX - 2, 6),
        elf(0x100_0000, 0x200_0000, 6),
        elf(0x100_0000, 0x100_0000, u64::MAX),
    ];
    for bytes in wild {
        let error = load(&ram, boot(&mut file(&bytes), "")).unwrap_err();
        assert!(matches!(error, BootError::Format), "{error}");
    }
    let big = elf(0x100_0000, 0x100_0000, 1 << 30);
    let error = load(&ram, boot(&mut file(&big), "")).unwrap_err();
    assert!(matches!(error, BootError::Memory { .. }), "{error}");
    let good = elf(0x100_0000, 0x100_0000, 6);
    for len in 4..good.len() {
        assert!(
            load(&ram, boot(&mut file(&good[..len]), "")).is_err(),
            "{len}"
        );
    }
}
