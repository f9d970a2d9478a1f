//! What of a description folder may change before a build goes on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use boxbuild_description::Half;
use boxbuild_host::stop::StopCheck;

use super::*;

struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder { dir };
        for (name, text) in [
            ("config.xml", "<image/>"),
            ("config.sh", "a"),
            ("disk.sh", "a"),
            ("README.md", "a"),
            ("root/etc/motd", "a"),
        ] {
            folder.write(name, text);
        }
        symlink("etc", folder.path("root/link")).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn look(&self, sections: &[(&str, Half, &str)]) -> Inputs {
        let sections = sections.iter().map(|(label, half, hash)| Section {
            label: (*label).to_owned(),
            half: *half,
            sha256: (*hash).to_owned(),
        });
        let places = Places {
            description: self.dir.path().to_owned(),
            target: self.path("out"),
            halves: Some(Halves {
                sections: sections.collect(),
                scripts: vec!["boot/edit.sh".into()],
                files: vec![String::from("config.xml")],
            }),
        };
        places.look().unwrap()
    }

    /// What a change changes: of `prepare`, and of `create`.
    fn changes(change: impl FnOnce(&Folder)) -> (Vec<String>, Vec<String>) {
        let folder = Folder::new();
        let mut before = folder.look(&[]);
        before.hash(folder.dir.path(), &StopCheck::default());
        change(&folder);
        let changes = before.changes(&folder.look(&[]), folder.dir.path(), &StopCheck::default());
        (
            changes.prepare.into_iter().collect(),
            changes.create.into_iter().collect(),
        )
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn files_of_create_and_files_for_people_may_change() {
    let none = (names(&[]), names(&[]));
    assert_eq!(Folder::changes(|_| {}), none);
    for ignored in [
        "README.md",
        ".git/config",
        "out/result.raw",
        "result.log",
        "config.xml",
    ] {
        assert_eq!(
            Folder::changes(|folder| folder.write(ignored, "b")),
            none,
            "{ignored}"
        );
    }
    for created in [
        "disk.sh",
        "images.sh",
        "pre_disk_sync.sh",
        "config-cdroot.tar.xz",
    ] {
        let changed = Folder::changes(|folder| folder.write(created, "b"));
        assert_eq!(changed, (names(&[]), names(&[created])));
    }
}

/// Its sections are those that were read when the build was planned.
#[test]
fn a_description_that_is_edited_while_it_runs_is_noticed() {
    let folder = Folder::new();
    let before = folder.look(&[]);
    assert!(before.is_still(&folder.look(&[])));
    folder.write("config.xml", "<image  />");
    let now = folder.look(&[]);
    assert!(!before.is_still(&now));
    let changes = before.changes(&now, folder.dir.path(), &StopCheck::default());
    assert_eq!(changes, Changes::default());
}

/// Each section was looked for among all others.
#[test]
fn many_sections_take_no_time() {
    let folder = Folder::new();
    let labels: Vec<String> = (0..60_000).map(|number| number.to_string()).collect();
    let of = |hash: &'static str| {
        let sections: Vec<_> = labels
            .iter()
            .map(|label| (&**label, Half::Prepare, hash))
            .collect();
        folder.look(&sections)
    };
    let begun = std::time::Instant::now();
    let changes = of("a").changes(&of("b"), folder.dir.path(), &StopCheck::default());
    assert_eq!(changes.prepare.len(), labels.len());
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
}

#[test]
fn everything_else_is_read_by_prepare() {
    for (name, named) in [
        ("config.sh", vec!["config.sh"]),
        ("root/etc/motd", vec!["root/etc/motd"]),
        ("root/etc/new", vec!["root/etc/new"]),
        ("unknown", vec!["unknown"]),
        ("root/README", vec!["root/README"]),
        ("sub/disk.sh", vec!["sub", "sub/disk.sh"]),
    ] {
        let changed = Folder::changes(|folder| folder.write(name, "b"));
        assert_eq!(changed, (names(&named), names(&[])), "{name}");
    }
    let removed = Folder::changes(|folder| fs::remove_file(folder.path("config.sh")).unwrap());
    assert_eq!(removed.0, names(&["config.sh"]));
    let executable = Folder::changes(|folder| {
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path("config.sh"), mode).unwrap();
    });
    assert_eq!(executable.0, names(&["config.sh"]));
    let link = Folder::changes(|folder| {
        fs::remove_file(folder.path("root/link")).unwrap();
        symlink("usr", folder.path("root/link")).unwrap();
    });
    assert_eq!(link.0, names(&["root/link"]));
}

/// The time of a file that was checked out once more says nothing.
#[test]
fn a_file_with_another_time_and_the_same_content_is_the_same() {
    let touched = Folder::changes(|folder| {
        let file = fs::File::options()
            .write(true)
            .open(folder.path("config.sh"))
            .unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    });
    assert_eq!(touched, (names(&[]), names(&[])));
    // While the build runs, that is not known: its content may have been another one in between.
    let folder = Folder::new();
    let before = folder.look(&[]);
    let file = fs::File::options()
        .write(true)
        .open(folder.path("config.sh"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(!before.is_still(&folder.look(&[])));
}

#[test]
fn sections_count_by_the_half_that_reads_them() {
    let folder = Folder::new();
    let before = folder.look(&[
        ("users", Half::Prepare, "1"),
        ("repository", Half::Prepare, "1"),
        ("repository", Half::Prepare, "2"),
        ("type: filesystem", Half::Create, "1"),
    ]);
    let now = folder.look(&[
        ("repository", Half::Prepare, "2"),
        ("repository", Half::Prepare, "3"),
        ("users", Half::Prepare, "1"),
        ("type: filesystem", Half::Create, "2"),
        ("type: size", Half::Create, "1"),
    ]);
    let changes = before.changes(&now, folder.dir.path(), &StopCheck::default());
    assert_eq!(
        changes.prepare,
        BTreeSet::from([String::from("repository")])
    );
    let created = ["type: filesystem", "type: size"].map(String::from);
    assert_eq!(changes.create, BTreeSet::from(created));
}

#[test]
fn names_of_any_bytes_are_recorded() {
    use std::os::unix::ffi::OsStrExt;
    let folder = Folder::new();
    folder.write("root/a \n\"b", "x");
    let raw = std::ffi::OsStr::from_bytes(b"raw \xff");
    fs::write(folder.dir.path().join(raw), "x").unwrap();
    symlink(raw, folder.path("root/raw")).unwrap();
    let inputs = folder.look(&[]);
    let text = serde_json::to_string(&inputs).unwrap();
    assert!(text.contains("\"config.sh\""), "{text}");
    assert_eq!(serde_json::from_str::<Inputs>(&text).unwrap(), inputs);
}
