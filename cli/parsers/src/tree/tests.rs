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
    let bytes = merge(paths, true)?;
    let mut listed = Vec::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
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
    Ok(listed)
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
    use std::io::{Seek, Write};
    let mut file = tempfile::tempfile().unwrap();
    for (name, kind) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(name.len() as u64);
        header.set_cksum();
        file.write_all(header.as_bytes()).unwrap();
        file.write_all(&name).unwrap();
        let padding = name.len().next_multiple_of(512) - name.len();
        file.write_all(&vec![0; padding]).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        file.write_all(header.as_bytes()).unwrap();
    }
    file.rewind().unwrap();
    file
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
