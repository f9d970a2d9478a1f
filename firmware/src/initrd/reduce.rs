//! One plain archive of the modules that a fast boot can need.

use std::borrow::Cow;
use std::collections::BTreeMap;

use boxinit::modules::{Index, is_packed, name_in};

use super::read::{ReadError, entries, unpack};
use crate::cpio::Archive;
use crate::kernel::unpack_start;

/// Grows with each change of what [`reduce`] makes of the same ramdisk.
pub const FORMAT: u32 = 2;

/// Modules: what drives the devices of the engines' machines.
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

/// File systems that boxbuild's init mounts, each with its modules and with what it asks the
/// kernel for.
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

/// What a box cannot do without, unless it is built into its kernel.
const NEEDED: &str = "virtio_blk";

/// Files of one folder `lib/modules/RELEASE`, by their path in it.
type Tree<'a> = BTreeMap<String, &'a [u8]>;

/// The modules in `ramdisk` that boxbuild's init can need, unpacked, with indexes of just these,
/// as one archive. Of the file systems, it has the driver of the root's, or of all if that is not
/// known (one of those that `boxinit::superblock` names). `None` if they are not to be found there in the usual form, so that all of
/// the ramdisk is needed.
///
/// # Errors
/// If the ramdisk cannot be read.
pub fn reduce(ramdisk: &[u8], root: Option<&str>) -> Result<Option<Vec<u8>>, ReadError> {
    let known = FILE_SYSTEMS.iter().any(|(kind, _)| root == Some(kind));
    let of_root = FILE_SYSTEMS
        .iter()
        .filter(|(kind, _)| !known || root == Some(kind))
        .flat_map(|(_, modules)| *modules);
    let wanted: Vec<&str> = DRIVERS.iter().chain(of_root).copied().collect();
    let parts = unpack(ramdisk)?;
    let mut trees: BTreeMap<String, Tree<'_>> = BTreeMap::new();
    for part in &parts {
        for entry in entries(part)? {
            if let (true, Some((release, path))) = (entry.is_file(), place(entry.path)) {
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
    for (release, tree) in &trees {
        any |= add(&mut archive, release, tree, &wanted)?;
    }
    Ok(any.then(|| archive.finish()))
}

/// Release and path below it, for a path in a folder of modules.
fn place(path: &[u8]) -> Option<(&str, &str)> {
    let path = std::str::from_utf8(path).ok()?;
    let path = path.strip_prefix("usr/").unwrap_or(path);
    let (release, path) = path.strip_prefix("lib/modules/")?.split_once('/')?;
    let harmless = |text: &str| !text.is_empty() && text != "." && text != "..";
    harmless(release).then_some((release, path))
}

/// Adds what is wanted of one release. False if it is of no use.
fn add(
    archive: &mut Archive,
    release: &str,
    tree: &Tree<'_>,
    wanted: &[&str],
) -> Result<bool, ReadError> {
    let text = |name: &str| {
        let bytes = tree.get(name).copied().unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let index = Index {
        dependencies: text("modules.dep"),
        aliases: text("modules.alias"),
        soft: text("modules.softdep"),
    };
    let mut files: Vec<&str> = Vec::new();
    for wanted in wanted {
        for module in index.modules(wanted) {
            for file in index.files(module) {
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
    }
    let builtin = text("modules.builtin");
    let there = |module: &str| {
        let has = |file: &str| name_in(file).replace('-', "_") == module;
        files.iter().any(|file| has(file)) || builtin.lines().any(has)
    };
    if !there(NEEDED) || files.iter().any(|file| !tree.contains_key(*file)) {
        return Ok(false);
    }

    let folder = format!("lib/modules/{release}");
    archive.directory(&folder, 0o755);
    for file in &files {
        let data = tree.get(*file).copied().unwrap_or_default();
        let data = if is_packed(file) {
            Cow::Owned(unpack_start(data)?.0)
        } else {
            Cow::Borrowed(data)
        };
        archive.file(&format!("{folder}/{}", plain(file)), 0o644, &data);
    }
    let names: Vec<String> = files
        .iter()
        .map(|file| name_in(file).replace('-', "_"))
        .collect();
    let dependencies: String = index
        .dependencies
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(file, _)| files.contains(file))
        .map(|(file, needed)| {
            let needed: Vec<String> = needed.split_ascii_whitespace().map(plain).collect();
            format!("{}: {}\n", plain(file), needed.join(" "))
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
    let aliases = of_these(&index.aliases, |line| {
        line.strip_prefix("alias ")?.rsplit(' ').next()
    });
    let soft = of_these(&index.soft, |line| {
        line.strip_prefix("softdep ")?.split(' ').next()
    });
    for (name, text) in [
        ("modules.dep", dependencies),
        ("modules.alias", aliases),
        ("modules.softdep", soft),
    ] {
        archive.file(&format!("{folder}/{name}"), 0o644, text.as_bytes());
    }
    Ok(true)
}

/// The name under which a module's file stands in the archive: no folders, not packed.
fn plain(file: &str) -> String {
    format!("{}.ko", name_in(file))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

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
    fn what_is_wanted_is_left_and_unpacked() {
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

    #[test]
    fn of_the_file_systems_only_the_roots() {
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
