//! Layers on top of each other, and archives that try to lead out of the tree.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tar::EntryType;

use super::archive::LayerError;
use super::merge;

const DIR: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

/// The archive of one header and what follows it, up to the end of its last block.
fn raw(header: &tar::Header, content: &[u8]) -> Vec<u8> {
    let mut bytes = [header.as_bytes(), content].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// The names, and what follows them, in an archive.
fn listed(bytes: &[u8]) -> Vec<String> {
    let mut listed = Vec::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        if let Some(target) = entry.link_name_bytes() {
            content = format!("-> {}", String::from_utf8_lossy(&target));
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        listed.push(format!("{name} {content}"));
    }
    listed.sort();
    listed
}

/// A header of the type `kind` that says it has `size` bytes.
fn header(name: &str, kind: EntryType, link: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    header
}

fn file(bytes: &[u8]) -> File {
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// A length that a link claims would make the content of the next file headers of the result.
#[test]
fn contents_do_not_become_entries() {
    let smuggled = raw(&header("../../evil", FILE, "", 0), b"");
    for (kind, link, length) in [
        (SYMLINK, "x", 512),
        (FILE, "x", 512),
        (DIR, "", 512),
        (DIR, "x", 512),
        (EntryType::Fifo, "x", 512),
    ] {
        let mut archive = raw(&header("first", kind, link, length), &[b'x'; 512]);
        let next = header("next", FILE, "", smuggled.len() as u64);
        archive.extend(raw(&next, &smuggled));
        let merged = merge(vec![file(&archive)], true).unwrap();
        let names: Vec<String> = listed(&merged)
            .iter()
            .map(|line| line.split(' ').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(names, ["first", "next"], "{kind:?} {link}");
        // Also for programs that take a length for one whatever the type is.
        let first = tar::Header::from_byte_slice(&merged[..512]);
        let size = first.entry_size().unwrap();
        assert_eq!(size, if kind == FILE { length } else { 0 });
    }
}

/// A prefix in the header that leads through a link was written in front of the name that it led to.
#[test]
fn a_prefix_is_part_of_one_name_only() {
    let mut archive = raw(&header("a", SYMLINK, "/b", 0), b"");
    let mut below = header("x", FILE, "", 1);
    below.as_ustar_mut().unwrap().prefix[..1].copy_from_slice(b"a");
    below.set_cksum();
    archive.extend(raw(&below, b"x"));
    let merged = merge(vec![file(&archive)], true).unwrap();
    assert_eq!(listed(&merged), ["a -> /b", "b/x x"]);
}

fn layer(dir: &Path, name: &str, entries: &[(&str, EntryType, &str)]) -> File {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        let data = if matches!(*kind, SYMLINK | LINK) {
            header.as_gnu_mut().unwrap().linkname[..content.len()]
                .copy_from_slice(content.as_bytes());
            ""
        } else {
            content
        };
        header.set_size(data.len() as u64);
        // As written, also what a careful library refuses.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, data.as_bytes()).unwrap();
    }
    let path = dir.join(name);
    std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
    File::open(path).unwrap()
}

/// Names, kinds and contents of the tree that layers make.
fn merged(layers: &[&[(&str, EntryType, &str)]]) -> Result<Vec<String>, LayerError> {
    let dir = tempfile::tempdir().unwrap();
    let paths = layers
        .iter()
        .enumerate()
        .map(|(number, entries)| layer(dir.path(), &number.to_string(), entries))
        .collect();
    Ok(listed(&merge(paths, true)?))
}

#[test]
fn layers_on_top_of_each_other() {
    let base: &[_] = &[
        ("./", DIR, ""),
        ("usr/", DIR, ""),
        ("usr/lib/", DIR, ""),
        ("lib", SYMLINK, "usr/lib"),
        ("usr/lib/a", FILE, "old"),
        ("usr/lib/b", LINK, "lib/a"),
        ("gone/x", FILE, "x"),
        ("opaque/y", FILE, "y"),
    ];
    let top: &[_] = &[
        ("lib/a", FILE, "new"),
        (".wh.gone", FILE, ""),
        ("opaque/.wh..wh..opq", FILE, ""),
        ("opaque/z", FILE, "z"),
        ("dev/null", EntryType::Char, ""),
    ];
    assert_eq!(
        merged(&[base, top]).unwrap(),
        [
            "lib -> usr/lib",
            "opaque/z z",
            "usr ",
            "usr/lib ",
            "usr/lib/a new",
            // The old content lives on under its other name.
            "usr/lib/b old",
        ]
    );
}

#[test]
fn nothing_leads_out_of_the_tree() {
    for bad in ["../x", "a/../../x", "/../x"] {
        let error = merged(&[&[(bad, FILE, "x")]]).unwrap_err().to_string();
        assert!(error.contains("'..'"), "{error}");
    }
    assert_eq!(merged(&[&[("/etc/x", FILE, "x")]]).unwrap(), ["etc/x x"]);
    // Through a link: inside of the tree.
    for target in ["/etc", "../../../etc", "/../etc"] {
        let listed = merged(&[&[("a", SYMLINK, target), ("a/x", FILE, "x")]]).unwrap();
        assert_eq!(listed, [format!("a -> {target}"), "etc/x x".to_owned()]);
    }
    let circle: &[_] = &[("a", SYMLINK, "b"), ("b", SYMLINK, "a"), ("a/x", FILE, "x")];
    assert!(merged(&[circle]).is_err());
    assert!(merged(&[&[("a", FILE, ""), ("a/x", FILE, "x")]]).is_err());
    assert!(merged(&[&[("a", LINK, "/etc/passwd")]]).is_err());
    assert!(merged(&[&[("a", LINK, "../../etc/passwd")]]).is_err());
    // What a folder becomes loses what was below it.
    let listed = merged(&[
        &[("a/x", FILE, "x")],
        &[("a", SYMLINK, "/b"), ("a/y", FILE, "y")],
    ]);
    assert_eq!(listed.unwrap(), ["a -> /b", "b/y y"]);
}

/// A layer of entries whose names do not fit into a header.
fn long(entries: impl IntoIterator<Item = (Vec<u8>, EntryType)>) -> File {
    let mut bytes = Vec::new();
    for (name, kind) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(name.len() as u64);
        header.set_cksum();
        bytes.extend(raw(&header, &name));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(0);
        header.set_cksum();
        bytes.extend(raw(&header, b""));
    }
    file(&bytes)
}

/// Fault 30: one name of 80 KiB took 1.9 GiB.
#[test]
fn deep_and_long_names_are_refused() {
    let refused = |name: Vec<u8>| {
        let error = merge(vec![long([(name, FILE)])], true).unwrap_err();
        assert!(error.to_string().contains("too long"), "{error}");
    };
    refused(b"a/".repeat(40_000));
    refused(b"a/".repeat(257));
    refused(vec![b'a'; 256]);
    refused([b"abcdefghijklmnop/".repeat(256).as_slice(), b"x"].concat());
    merge(vec![long([(b"a/".repeat(250), DIR)])], true).unwrap();
}

#[test]
fn memory_for_names_has_a_limit() {
    // Folders that only names of files tell of: 250 levels each.
    let names = (0..40_000_u32).map(|number| {
        let folder = format!("{number:0>12}/");
        (folder.repeat(250).into_bytes(), FILE)
    });
    let error = merge(vec![long(names)], true).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
}

#[test]
fn entries_that_remove_the_same_again_and_again_are_refused() {
    let mut entries: Vec<(Vec<u8>, EntryType)> = (0..30_000_u32)
        .map(|number| (format!("d/{number:x}").into_bytes(), FILE))
        .collect();
    entries.extend((0..30_000).map(|_| (b"d/.wh..wh..opq".to_vec(), FILE)));
    let start = std::time::Instant::now();
    let error = merge(vec![long(entries)], true).unwrap_err();
    assert!(error.to_string().contains("too many"), "{error}");
    assert!(start.elapsed().as_secs() < 120, "{:?}", start.elapsed());
}
