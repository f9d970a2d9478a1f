//! Reduces a ramdisk to one uncompressed archive of the modules that a fast boot may need.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use boxinit::modules::{Index, is_compressed, module_name};

use super::read::{ReadError, entries, unpack};
use crate::cpio::Archive;
use crate::kernel::{ExtractError, unpack_at_most};

/// Version of the output: increase it with each change of what [`reduce`] returns for the same
/// ramdisk.
pub const FORMAT: u32 = 4;

/// Modules that drive the devices of the engines' machines.
const DRIVERS: &[&str] = &[
    "virtio_pci",
    "virtio_mmio",
    "virtio_blk",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "virtiofs",
];

/// File systems that boxbuild's init mounts, each with its modules and those that it requests from
/// the kernel.
const FILE_SYSTEMS: &[(&str, &[&str])] = &[
    ("ext4", &["ext4", "ext2", "crypto-crc32c"]),
    ("xfs", &["xfs", "crypto-crc32c"]),
    (
        "btrfs",
        &[
            "btrfs",
            "crypto-crc32c",
            "crypto-xxhash64",
            "crypto-sha256",
            "crypto-blake2b-256",
        ],
    ),
    ("f2fs", &["f2fs", "crypto-crc32"]),
];

/// Limit for the modules of a reduced ramdisk together, in bytes: a distribution's file system and
/// virtio drivers have less than 20 MiB.
const LARGEST_MODULES: usize = 256 << 20;
/// Longest text of an index that is searched, in bytes: ten times that of a distribution with all
/// modules.
const LARGEST_INDEX: usize = 16 << 20;
/// Most folders of modules: a ramdisk is for one kernel.
const MOST_RELEASES: usize = 16;

/// The module without which a ramdisk is not reduced, unless it is built into the kernel.
const REQUIRED: &str = "virtio_blk";

/// Files of one folder `lib/modules/RELEASE`, by their path in it.
type Tree<'a> = BTreeMap<String, &'a [u8]>;

/// Returns an archive of the modules in `ramdisk` that boxbuild's init may need, uncompressed, with
/// indexes of just these. It holds the driver of the root's file system `root` (a type that
/// [`boxinit::superblock`] knows), or of all of them if that is not known. `None` if the ramdisk has
/// no modules in the usual form, so that all of it is needed.
///
/// # Errors
/// If the ramdisk cannot be read.
pub fn reduce(ramdisk: &[u8], root: Option<&str>) -> Result<Option<Vec<u8>>, ReadError> {
    let known = FILE_SYSTEMS.iter().any(|(kind, _)| root == Some(kind));
    let of_root = FILE_SYSTEMS
        .iter()
        .filter(|(kind, _)| !known || root == Some(kind))
        .flat_map(|(_, modules)| *modules);
    let names: Vec<&str> = DRIVERS.iter().chain(of_root).copied().collect();
    let parts = unpack(ramdisk)?;
    let mut trees: BTreeMap<String, Tree<'_>> = BTreeMap::new();
    for part in &parts {
        for entry in entries(part)? {
            if let (true, Some((release, path))) = (entry.is_file(), in_modules(entry.path)) {
                if trees.len() > MOST_RELEASES {
                    return Err(ReadError::TooMany);
                }
                let tree = trees.entry(release.to_owned()).or_default();
                tree.insert(path.to_owned(), entry.data);
            }
        }
    }
    let mut archive = Archive::new();
    archive
        .directory("lib", 0o755)
        .directory("lib/modules", 0o755);
    let mut any = false;
    let mut left = LARGEST_MODULES;
    for (release, tree) in &trees {
        any |= add_release(&mut archive, release, tree, &names, &mut left)?;
    }
    Ok(any.then(|| archive.finish()))
}

/// Splits a path in a folder of modules into the release and the path below it.
fn in_modules(path: &[u8]) -> Option<(&str, &str)> {
    let path = std::str::from_utf8(path).ok()?;
    let path = path.strip_prefix("usr/").unwrap_or(path);
    let (release, path) = path.strip_prefix("lib/modules/")?.split_once('/')?;
    let is_name = |text: &str| !text.is_empty() && text != "." && text != "..";
    is_name(release).then_some((release, path))
}

/// Adds the modules `names` of one release with their dependencies. Returns false if the release
/// lacks a file or [`REQUIRED`]; nothing is added then.
fn add_release(
    archive: &mut Archive,
    release: &str,
    tree: &Tree<'_>,
    names: &[&str],
    left: &mut usize,
) -> Result<bool, ReadError> {
    let too_long = |name: &&String| {
        name.starts_with("modules.")
            && tree
                .get(*name)
                .is_some_and(|file| file.len() > LARGEST_INDEX)
    };
    if tree.keys().any(|name| too_long(&name)) {
        return Err(ReadError::TooMuchWork);
    }
    let read = |name: &str| tree.get(name).map(|file| file.to_vec());
    let index = Index::from_files(read);
    let files = files(&index, names);
    if index.is_exhausted() {
        return Err(ReadError::TooMuchWork);
    }
    let builtin = Index::builtin_from_files(read);
    let is_required = |file: &str| normal_name(file) == REQUIRED;
    let has_required =
        files.iter().any(|file| is_required(file)) || builtin.lines().any(is_required);
    if !has_required || files.iter().any(|file| !tree.contains_key(*file)) {
        return Ok(false);
    }

    let folder = format!("lib/modules/{release}");
    archive.directory(&folder, 0o755);
    for file in &files {
        let data = tree.get(*file).copied().unwrap_or_default();
        let data = if is_compressed(file) {
            let unpacked = unpack_at_most(data, *left).map_err(|error| match error {
                ExtractError::TooLarge => ReadError::TooLarge,
                other => ReadError::Unpack(other),
            })?;
            Cow::Owned(unpacked.0)
        } else {
            Cow::Borrowed(data)
        };
        *left = left.checked_sub(data.len()).ok_or(ReadError::TooLarge)?;
        archive.file(&format!("{folder}/{}", archived_name(file)), 0o644, &data);
    }
    let reduced = reduce_index(&index, &files);
    for (name, text) in [
        ("modules.dep", reduced.dependencies),
        ("modules.alias", reduced.aliases),
        ("modules.softdep", reduced.soft),
    ] {
        archive.file(&format!("{folder}/{name}"), 0o644, text.as_bytes());
    }
    Ok(true)
}

/// Files of the modules that `names` stand for, with their dependencies, each once and in the order
/// of loading.
fn files<'a>(index: &'a Index, names: &[&str]) -> Vec<&'a str> {
    let mut files: Vec<&str> = Vec::new();
    let mut known = HashSet::new();
    for name in names {
        for module in index.modules(name) {
            let more = index.files(module);
            files.extend(more.into_iter().filter(|file| known.insert(*file)));
        }
    }
    files
}

/// The lines of an index for the modules in `files`.
fn reduce_index(index: &Index, files: &[&str]) -> Index {
    let names: HashSet<String> = files.iter().map(|file| normal_name(file)).collect();
    let files: HashSet<&str> = files.iter().copied().collect();
    let dependencies = index
        .dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(file, _)| files.contains(*file))
        .map(|(file, needed)| {
            let needed: Vec<String> = needed.split_ascii_whitespace().map(archived_name).collect();
            format!("{}: {}\n", archived_name(file), needed.join(" "))
        })
        .collect();
    let of_these = |text: &str, module: fn(&str) -> Option<&str>| -> String {
        text.lines()
            .filter(|line| {
                module(line).is_some_and(|module| names.contains(&module.replace('-', "_")))
            })
            .map(|line| format!("{line}\n"))
            .collect()
    };
    Index {
        dependencies,
        aliases: of_these(&index.aliases, |line| {
            line.strip_prefix("alias ")?.rsplit(' ').next()
        }),
        soft: of_these(&index.soft, |line| {
            line.strip_prefix("softdep ")?.split(' ').next()
        }),
        ..Index::default()
    }
}

/// The name of the module in a file, with underscores.
fn normal_name(file: &str) -> String {
    module_name(file).replace('-', "_")
}

/// The name of a module's file in the archive: without folders, not compressed.
fn archived_name(file: &str) -> String {
    format!("{}.ko", module_name(file))
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};

    use super::*;

    fn ramdisk(builtin: &str, pack: bool) -> Vec<u8> {
        let module = |content: &str| {
            if !pack {
                return content.as_bytes().to_vec();
            }
            let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
            xz.write_all(content.as_bytes()).unwrap();
            xz.finish().unwrap()
        };
        let end = if pack { ".xz" } else { "" };
        let dependencies = format!(
            "kernel/virtio.ko{end}:\nkernel/b/virtio-blk.ko{end}: kernel/virtio.ko{end}\n\
             kernel/sound.ko{end}:\nkernel/btrfs.ko{end}:\n"
        );
        let folder = "usr/lib/modules/6.1";
        let mut archive = Archive::new();
        archive.file("init", 0o755, b"#!/bin/sh");
        let file = |archive: &mut Archive, name: &str, content: &[u8]| {
            archive.file(&format!("{folder}/{name}"), 0o644, content);
        };
        file(&mut archive, "modules.dep", dependencies.as_bytes());
        file(
            &mut archive,
            "modules.alias",
            b"alias virtio:d00000002v* virtio_blk\nalias x sound\n",
        );
        file(&mut archive, "modules.builtin", builtin.as_bytes());
        for (name, content) in [
            ("kernel/virtio.ko", "virtio!"),
            ("kernel/b/virtio-blk.ko", "block!"),
            ("kernel/sound.ko", "sound!"),
            ("kernel/btrfs.ko", "btrfs!"),
        ] {
            if builtin.is_empty() || name != "kernel/b/virtio-blk.ko" {
                file(&mut archive, &format!("{name}{end}"), &module(content));
            }
        }
        archive.finish()
    }

    fn contents(archive: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        entries(archive)
            .unwrap()
            .iter()
            .filter(|entry| entry.is_file())
            .map(|entry| (text(entry.path), text(entry.data)))
            .collect()
    }

    #[test]
    fn needed_modules_are_kept_and_decompressed() {
        for pack in [false, true] {
            let reduced = reduce(&ramdisk("", pack), None).unwrap().unwrap();
            let expected = [
                ("virtio.ko", "virtio!"),
                ("virtio-blk.ko", "block!"),
                ("btrfs.ko", "btrfs!"),
                (
                    "modules.dep",
                    "virtio.ko: \nvirtio-blk.ko: virtio.ko\nbtrfs.ko: \n",
                ),
                ("modules.alias", "alias virtio:d00000002v* virtio_blk\n"),
                ("modules.softdep", ""),
            ]
            .map(|(name, text)| (format!("lib/modules/6.1/{name}"), text.to_owned()));
            assert_eq!(contents(&reduced), expected, "{pack}");
        }
    }

    /// Arch's mkinitcpio leaves the binary indexes only: its ramdisks were given to the guest as they are,
    /// where boxinit found no modules either. Its modules are packed with zstd.
    #[test]
    fn a_ramdisk_with_binary_indexes_is_reduced() {
        let folder = "usr/lib/modules/6.1";
        let mut archive = Archive::new();
        for (name, bytes) in [
            (
                "dep",
                &include_bytes!("../../boxinit/src/testdata/modules.dep.bin")[..],
            ),
            (
                "alias",
                &include_bytes!("../../boxinit/src/testdata/modules.alias.bin")[..],
            ),
            (
                "builtin",
                &include_bytes!("../../boxinit/src/testdata/modules.builtin.bin")[..],
            ),
        ] {
            archive.file(&format!("{folder}/modules.{name}.bin"), 0o644, bytes);
        }
        for name in ["failover", "net_failover", "virtio_net", "virtio_blk"] {
            let packed = zstd::encode_all(name.as_bytes(), 1).unwrap();
            archive.file(&format!("{folder}/kernel/{name}.ko.zst"), 0o644, &packed);
        }
        let reduced = reduce(&archive.finish(), Some("ext4")).unwrap().unwrap();
        let files = contents(&reduced);
        let text = |name: &str| {
            let path = format!("lib/modules/6.1/{name}");
            let found = files.iter().find(|(found, _)| *found == path);
            found.map(|(_, text)| text.as_str())
        };
        assert_eq!(text("virtio_blk.ko"), Some("virtio_blk"));
        assert_eq!(text("failover.ko"), Some("failover"));
        let dependencies = text("modules.dep").unwrap();
        let net = "virtio_net.ko: net_failover.ko failover.ko\n";
        assert!(dependencies.contains(net), "{dependencies}");
        let alias = "alias virtio:d00000002v* virtio_blk\n";
        assert!(text("modules.alias").unwrap().contains(alias));
    }

    #[test]
    fn only_the_roots_file_system_is_kept() {
        let names = |root| {
            let reduced = reduce(&ramdisk("", false), root).unwrap().unwrap();
            let contents = contents(&reduced);
            let modules = contents.iter().filter(|(name, _)| name.ends_with(".ko"));
            modules.count()
        };
        assert_eq!(names(Some("btrfs")), 3);
        assert_eq!(names(Some("ext4")), 2);
        assert_eq!(names(Some("zfs")), 3);
        assert_eq!(names(None), 3);
    }

    /// Fault 24: a ramdisk of 1 KiB kept the host busy for minutes, before each fast boot.
    #[test]
    fn a_small_ramdisk_does_not_keep_the_host_busy() {
        let start = std::time::Instant::now();
        let names: Vec<String> = (0..60).map(|number| format!("m{number}")).collect();
        let line = |name: &String| format!("{name}.ko:\n");
        let soft = |name: &String| format!("softdep {name} pre: {}\n", names.join(" "));
        let dependencies: String = names.iter().map(line).collect();
        let soft: String = names.iter().map(soft).collect();
        let circles = [
            ("modules.dep", format!("virtio_blk.ko:\n{dependencies}")),
            (
                "modules.softdep",
                format!("softdep virtio_blk pre: m0\n{soft}"),
            ),
        ];
        let stars = format!("alias {}b x\n", "*a".repeat(100)).repeat(100_000);
        let patterns = [
            ("modules.dep", String::from("virtio_blk.ko:\n")),
            (
                "modules.alias",
                stars.replace("*a", "*[a-z_]")[..LARGEST_INDEX].to_owned(),
            ),
        ];
        let long = [("modules.alias", " ".repeat(LARGEST_INDEX + 1))];
        for (files, is_refused) in [
            (&circles[..], false),
            (&patterns[..], true),
            (&long[..], true),
        ] {
            let mut archive = Archive::new();
            for (name, text) in files {
                archive.file(&format!("lib/modules/6.1/{name}"), 0o644, text.as_bytes());
            }
            archive.file("lib/modules/6.1/virtio_blk.ko", 0o644, b"block!");
            let packed = zstd::encode_all(&archive.finish()[..], 3).unwrap();
            let result = reduce(&packed, None);
            let refused = matches!(result, Err(ReadError::TooMuchWork));
            assert_eq!(
                refused,
                is_refused,
                "{:?}",
                result.map(|found| found.is_some())
            );
        }
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }

    #[test]
    fn modules_that_unpack_without_end_are_refused() {
        let zeros = zstd::encode_all(io::repeat(0).take(LARGEST_MODULES as u64 + 1), 1).unwrap();
        let mut archive = Archive::new();
        archive.file(
            "lib/modules/6.1/modules.dep",
            0o644,
            b"virtio_blk.ko.zst:\n",
        );
        archive.file("lib/modules/6.1/virtio_blk.ko.zst", 0o644, &zeros);
        assert!(matches!(
            reduce(&archive.finish(), None),
            Err(ReadError::TooLarge)
        ));
        let mut bomb = Vec::new();
        for _ in 0..3 {
            bomb.extend_from_slice(&zeros);
        }
        assert!(matches!(reduce(&bomb, None), Err(ReadError::TooLarge)));
    }

    #[test]
    fn a_ramdisk_without_a_disk_driver_is_left_as_it_is() {
        let mut other = ramdisk("", false);
        let at = other
            .windows(10)
            .position(|window| window == b"virtio-blk")
            .unwrap();
        other[at..at + 10].copy_from_slice(b"virtio-xyz");
        assert_eq!(reduce(&other, None).unwrap(), None);
        assert_eq!(reduce(&Archive::new().finish(), None).unwrap(), None);
    }
}
