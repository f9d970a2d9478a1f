//! Every piece of work, under the filters.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use boxbuild_firmware::cpio;
use boxbuild_parsers::{Output, ParseError, TreeOutputs, TreeSource};
use boxbuild_vmm::disk::Image;
use sha2::{Digest, Sha256};

use crate::{Test, file, parser};

pub(crate) const TESTS: &[Test] = crate::tests![
    a_boot_archive_is_unpacked,
    a_disk_is_looked_at_and_written,
    a_kernel_is_unpacked,
    a_ramdisk_is_reduced,
    a_root_tree_is_put_together,
    a_container_image_is_put_together,
];

/// More than any of it.
const LIMIT: u64 = 64 << 20;

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
    xz.write_all(bytes).unwrap();
    xz.finish().unwrap()
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn a_boot_archive_is_unpacked() {
    let archive = xz(&tar(&[
        ("x.kernel", b"kernel"),
        ("x.initrd", &[7; 3 << 20]),
    ]));
    let (mut kernel, mut initrd) = (Vec::new(), Vec::new());
    parser()
        .boot_archive(
            &file(&archive),
            Output::new(&mut kernel, LIMIT),
            Some(Output::new(&mut initrd, LIMIT)),
        )
        .unwrap();
    assert_eq!(kernel, b"kernel");
    assert!(initrd == [7; 3 << 20]);
    // One is enough, and damage is said.
    let mut kernel = Vec::new();
    let only = Output::new(&mut kernel, LIMIT);
    parser().boot_archive(&file(&archive), only, None).unwrap();
    assert_eq!(kernel, b"kernel");
    let mut kernel = Vec::new();
    let out = Output::new(&mut kernel, LIMIT);
    let error = parser()
        .boot_archive(&file(&archive[..100]), out, None)
        .unwrap_err();
    assert!(
        error.is_final() && error.to_string().contains("damaged"),
        "{error}"
    );
}

/// A raw disk with one Linux partition, whose file system says that it is ext4.
fn raw() -> File {
    let disk = file(&[]);
    disk.set_len(8 << 20).unwrap();
    let mut sector = [0; 512];
    sector[446 + 4] = 0x83;
    sector[446 + 8..446 + 12].copy_from_slice(&2048_u32.to_le_bytes());
    sector[446 + 12..446 + 16].copy_from_slice(&8192_u32.to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    disk.write_all_at(&sector, 0).unwrap();
    // The magic number, and the feature of extents (Linux, fs/ext4/ext4.h).
    let superblock = (1 << 20) + 1024;
    disk.write_all_at(&[0x53, 0xef], superblock + 56).unwrap();
    disk.write_all_at(&[0x40, 0, 0, 0], superblock + 96)
        .unwrap();
    disk
}

fn a_disk_is_looked_at_and_written() {
    let raw = raw();
    let facts = parser().disk(&raw, false).unwrap();
    assert_eq!((facts.len, facts.is_compressed), (8 << 20, false));
    assert_eq!(facts.linux_partitions, [1]);
    let error = parser().disk(&raw, true).unwrap_err();
    assert!(error.to_string().contains("not a qcow2 image"), "{error}");
    let mut plain = file(&[]);
    let mut announced = 0;
    let out = Output::new(&mut plain, LIMIT);
    parser()
        .plain_disk(&raw, out, &mut |size| {
            announced = size;
            Ok(())
        })
        .unwrap();
    assert_eq!(plain.metadata().unwrap().len(), announced);
    let cmdline = [String::from("root=/dev/vda1")];
    let plain_copy = plain.try_clone().unwrap();
    assert!(Image::new(plain_copy).unwrap().is_qcow2());
    let mut rewound = plain;
    io::Seek::rewind(&mut rewound).unwrap();
    let kind = parser().root_kind(&rewound, &cmdline).unwrap();
    assert_eq!(kind.as_deref(), Some("ext4"));
    // Its length can be refused.
    let mut nothing = Vec::new();
    let out = Output::new(&mut nothing, LIMIT);
    let error = parser()
        .plain_disk(&raw, out, &mut |_| Err(io::ErrorKind::StorageFull.into()))
        .unwrap_err();
    assert!(matches!(error, ParseError::Write(_)), "{error}");
    assert!(nothing.is_empty());
}

fn a_kernel_is_unpacked() {
    let mut elf = b"\x7fELF\x02\x01".to_vec();
    elf.resize(1 << 20, 7);
    let payload = xz(&elf);
    let mut image = vec![0; 1024];
    image[0x1f1] = 1;
    image[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image[0x206..0x208].copy_from_slice(&[0x0f, 2]);
    image[0x236] = 1;
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend_from_slice(&payload);
    let mut out = Vec::new();
    let pvh = parser()
        .kernel(&file(&image), Output::new(&mut out, LIMIT))
        .unwrap();
    assert!(out == elf && !pvh);
    let mut out = Vec::new();
    let error = parser()
        .kernel(&file(b"no"), Output::new(&mut out, LIMIT))
        .unwrap_err();
    assert!(error.to_string().contains("not an x86 kernel"), "{error}");
    // What comes out has a limit.
    let mut out = Vec::new();
    let error = parser()
        .kernel(&file(&image), Output::new(&mut out, 1000))
        .unwrap_err();
    assert!(
        error.is_final() && error.to_string().contains("more than"),
        "{error}"
    );
}

fn a_ramdisk_is_reduced() {
    let mut archive = cpio::Archive::new();
    archive
        .file(
            "lib/modules/6.1/modules.dep",
            0o644,
            b"virtio_blk.ko.zst:\n",
        )
        .file(
            "lib/modules/6.1/virtio_blk.ko.zst",
            0o644,
            &zstd::encode_all(&b"block!"[..], 1).unwrap(),
        );
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive.finish()).unwrap();
    let mut out = Vec::new();
    let packed = file(&gzip.finish().unwrap());
    let reduced = parser()
        .ramdisk(&packed, Some("ext4"), Output::new(&mut out, LIMIT))
        .unwrap();
    assert!(reduced && out.windows(6).any(|part| part == b"block!"));
    let mut out = Vec::new();
    let other = file(&cpio::Archive::new().finish());
    assert!(
        !parser()
            .ramdisk(&other, None, Output::new(&mut out, LIMIT))
            .unwrap()
    );
    assert!(out.is_empty());
}

/// The names in an archive.
fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let names = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        String::from_utf8(entry.path_bytes().into_owned()).unwrap()
    });
    names.collect()
}

fn a_root_tree_is_put_together() {
    let tree = tar(&[
        ("boot/vmlinuz-1", b"old"),
        ("boot/vmlinuz-2", b"new"),
        ("boot/initrd-2", b"ramdisk"),
        ("etc/x", b"x"),
    ]);
    for packed in [
        tree.clone(),
        xz(&tree),
        zstd::encode_all(&tree[..], 1).unwrap(),
    ] {
        let (mut out, mut kernel, mut initrd) = (Vec::new(), Vec::new(), Vec::new());
        let outputs = TreeOutputs {
            tree: Output::new(&mut out, LIMIT),
            kernel: Some(Output::new(&mut kernel, LIMIT)),
            initrd: Some(Output::new(&mut initrd, LIMIT)),
        };
        let input = file(&packed);
        let facts = parser()
            .tree(
                TreeSource::Archive,
                "amd64",
                Some(&input),
                outputs,
                &mut |_| Err(io::ErrorKind::NotFound.into()),
            )
            .unwrap();
        assert!(facts.kernel && facts.initrd);
        assert_eq!(
            (kernel.as_slice(), initrd.as_slice()),
            (&b"new"[..], &b"ramdisk"[..])
        );
        let expected = ["boot/vmlinuz-1", "boot/vmlinuz-2", "boot/initrd-2", "etc/x"];
        assert_eq!(names(&out), expected);
    }
}

fn a_container_image_is_put_together() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |content: &[u8]| {
        let hash: String = Sha256::digest(content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        std::fs::write(blobs.join(&hash), content).unwrap();
        format!("{{\"digest\": \"sha256:{hash}\"}}")
    };
    let layers = [
        put(&tar(&[("a/x", b"x"), ("a/y", b"y")])),
        put(&xz(&tar(&[("a/.wh.x", b""), ("b", b"b")]))),
    ];
    let manifest = put(format!("{{\"layers\": [{}]}}", layers.join(",")).as_bytes());
    let index = format!("{{\"manifests\": [{manifest}]}}");
    std::fs::write(dir.path().join("index.json"), index).unwrap();
    let beside = tempfile::tempdir().unwrap();
    let archive = beside.path().join("archive");
    let mut builder = tar::Builder::new(File::create(&archive).unwrap());
    builder.append_dir_all(".", dir.path()).unwrap();
    builder.finish().unwrap();
    for source in [TreeSource::OciFolder, TreeSource::OciArchive] {
        let mut out = Vec::new();
        let outputs = TreeOutputs {
            tree: Output::new(&mut out, LIMIT),
            kernel: None,
            initrd: None,
        };
        let input = File::open(&archive).unwrap();
        let input = (source == TreeSource::OciArchive).then_some(&input);
        let mut open = |name: &str| File::open(dir.path().join(name));
        parser()
            .tree(source, "amd64", input, outputs, &mut open)
            .unwrap();
        assert_eq!(names(&out), ["a/y", "b"]);
    }
    // What is not there is an error.
    let mut out = Vec::new();
    let outputs = TreeOutputs {
        tree: Output::new(&mut out, LIMIT),
        kernel: None,
        initrd: None,
    };
    let mut none = |_: &str| Err(io::ErrorKind::NotFound.into());
    let result = parser().tree(TreeSource::OciFolder, "amd64", None, outputs, &mut none);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("index.json"), "{error}");
    let mut read = String::new();
    file(b"still works").read_to_string(&mut read).unwrap();
}
