//! Names that a guest does not see: not by any request, and by no other path to their directory.

use std::ffi::OsString;
use std::fs;

use boxbuild_virtiofs::{DirectoryId, Hidden, HiddenNames};

use crate::support::{ALL_LOCKS, ROOT, TestShare, directory};

/// A share whose directory `target` has results that the guest does not see.
fn share(names: HiddenNames) -> TestShare {
    let dir = directory();
    let root = dir.path().join("share");
    fs::create_dir_all(root.join("target/old")).unwrap();
    fs::create_dir_all(root.join("deep/.staging/inside")).unwrap();
    for file in ["target/result", "target/own", "result"] {
        fs::write(root.join(file), file).unwrap();
    }
    let id = DirectoryId::of(fs::File::open(root.join("target")).unwrap()).unwrap();
    TestShare::in_dir(
        dir,
        |share| {
            share.hidden = Hidden {
                everywhere: vec![".staging".into()],
                inside: Some((id, names)),
            }
        },
        ALL_LOCKS,
    )
}

fn results() -> HiddenNames {
    HiddenNames::These(["result", "old"].map(OsString::from).into())
}

fn names(guest: &mut TestShare, node: u64, plus: bool) -> Vec<String> {
    let entries = guest.list(node, plus, 4096).unwrap();
    let names = entries
        .into_iter()
        .map(|entry| String::from_utf8(entry.name).unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with("..")).collect();
    names.sort();
    names
}

#[test]
fn hidden_names_are_neither_listed_nor_found() {
    let mut guest = share(results());
    let target = guest.lookup(ROOT, "target").unwrap().nodeid;
    let deep = guest.lookup(ROOT, "deep").unwrap().nodeid;
    for plus in [false, true] {
        assert_eq!(names(&mut guest, target, plus), [".", "own"]);
        assert_eq!(names(&mut guest, deep, plus), ["."]);
        assert_eq!(
            names(&mut guest, ROOT, plus),
            [".", "deep", "result", "target"]
        );
    }
    for (parent, name) in [(target, "result"), (target, "old"), (deep, ".staging")] {
        assert_eq!(guest.lookup(parent, name).map(drop), Err(libc::ENOENT));
    }
    guest.lookup(ROOT, "result").unwrap();
    guest.lookup(target, "own").unwrap();
    // A directory of nothing but hidden names is empty, and no error.
    let mut guest = share(HiddenNames::All);
    let target = guest.lookup(ROOT, "target").unwrap().nodeid;
    assert_eq!(names(&mut guest, target, true), ["."]);
}

#[test]
fn hidden_names_can_neither_be_changed_nor_taken() {
    let mut guest = share(results());
    let target = guest.lookup(ROOT, "target").unwrap().nodeid;
    let file = guest.lookup(target, "own").unwrap().nodeid;
    let (noreplace, exchange) = (libc::RENAME_NOREPLACE, libc::RENAME_EXCHANGE);
    let missing = [
        guest.unlink(target, "result"),
        guest.rmdir(target, "old"),
        guest.rename((target, "result"), (ROOT, "mine")),
        guest.rename2((target, "result"), (ROOT, "mine"), noreplace),
        guest.rename2((target, "result"), (target, "own"), exchange),
    ];
    assert_eq!(missing, [Err(libc::ENOENT); 5]);
    let taken = [
        guest.rename((target, "own"), (target, "result")),
        guest.rename2((target, "own"), (target, "result"), exchange),
        guest.create(target, "result", 0o600).map(drop),
        guest
            .create_with(target, "result", 0o600, libc::O_CREAT)
            .map(drop),
        guest.mkdir(target, "old", 0o700).map(drop),
        guest
            .mknod(target, "result", libc::S_IFREG | 0o600, 0)
            .map(drop),
        guest
            .mknod(target, "result", libc::S_IFIFO | 0o600, 0)
            .map(drop),
        guest.symlink(target, "result", "y").map(drop),
        guest.link(file, target, "result").map(drop),
        guest.mkdir(ROOT, ".staging", 0o700).map(drop),
    ];
    assert_eq!(taken, [Err(libc::EACCES); 10]);
    for (file, text) in [
        ("target/result", "target/result"),
        ("target/own", "target/own"),
    ] {
        assert_eq!(fs::read_to_string(guest.host(file)).unwrap(), text);
    }
    assert!(guest.host("target/old").is_dir());
    guest.assert_unharmed();
}
