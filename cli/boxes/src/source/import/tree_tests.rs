//! Layers on top of each other, and archives that try to lead out of the tree.

use std::io::Read;
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::archive::LayerError;
use super::tree::Tree;

const DIR: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const SYMLINK: EntryType = EntryType::Symlink;
const LINK: EntryType = EntryType::Link;

fn layer(dir: &Path, name: &str, entries: &[(&str, EntryType, &str)]) -> PathBuf {
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
    path
}

/// Names, kinds and contents of the tree that layers make.
fn merged(layers: &[&[(&str, EntryType, &str)]]) -> Result<Vec<String>, LayerError> {
    let dir = tempfile::tempdir().unwrap();
    let paths = layers
        .iter()
        .enumerate()
        .map(|(number, entries)| layer(dir.path(), &number.to_string(), entries))
        .collect();
    let tree = Tree::read(paths, true)?;
    let mut bytes = Vec::new();
    tree.write(&mut bytes, &[])?;
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
